# The short commands. What they do in detail is in CMakePresets.json and scripts/.
#
#   TORCH=/path/to/site-packages/torch make test    links that LibTorch instead of the system's

JOBS ?= $(shell nproc)
MODEL ?= smollm2-135m

ifdef TORCH
export TORCH
BUILD := build/release-torch
CONFIGURE := cmake --preset release -B $(BUILD) -DTORCH=$(abspath $(TORCH))
else
BUILD := build/release
CONFIGURE := cmake --preset release
endif
PROGRAM := $(BUILD)/apps/plumb/plumb

.PHONY: help demo test bench docs format setup clean configure
.DEFAULT_GOAL := help

help:
	@echo "make demo     find the P0 sink circuit of a real model; results in out/p0"
	@echo "make test     build everything and run all tests"
	@echo "make bench    measure the speed beside the reference libraries (18 GB of Python packages)"
	@echo "make docs     a reference of the public headers, in build/release/docs/api (needs doxygen)"
	@echo "make format   format every source in place"
	@echo "make setup    install what is missing (apt; the other targets do it too)"
	@echo "make clean    remove build/ and out/"
	@echo "Variables: JOBS=$(JOBS)  MODEL=$(MODEL)  TORCH=$(TORCH)"

setup:
	@scripts/setup.sh

configure: setup
	@mkdir -p build && $(CONFIGURE) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }

demo: configure
	@cmake --build $(BUILD) --target plumb_cli -j $(JOBS)
	@scripts/demo.sh $(PROGRAM) $(MODEL) out/p0

test: configure
	@cmake --build $(BUILD) -j $(JOBS)
	@data/models/get smollm2-135m >/dev/null || \
	  echo "No smollm2-135m: the tests that need it are skipped." >&2
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

bench: configure
	@cmake --build $(BUILD) --target plumb_bench_forward plumb_cli -j $(JOBS)
	@tests/bench/run.sh $(BUILD)
	@tests/bench/patching.sh $(BUILD)
	@tests/bench/edges.sh $(BUILD)
	@tests/bench/planted.sh $(BUILD) 20

docs: configure
	@cmake --build $(BUILD) --target docs

format:
	@command -v clang-format >/dev/null || { echo "clang-format is missing: apt install clang-format"; exit 1; }
	@git ls-files '*.h' '*.cpp' | xargs clang-format -i

clean:
	@rm -rf build out
