#!/bin/sh
# plain_docstrings.sh HEADER: the header for Doxygen. Docstrings are prose without commands, so a backslash in one is text.
exec sed -E '/\/\/\//s/\\([A-Za-z])/\\\\\1/g' "$1"
