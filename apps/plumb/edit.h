// The subcommand `edit`.
#pragma once

#include "shared.h"

namespace plumb::app {

Command edit_command();

}  // namespace plumb::app
