// The subcommand that makes a page of an archive.
#pragma once

#include "shared.h"

namespace plumb::app {

Command report_command();

}  // namespace plumb::app
