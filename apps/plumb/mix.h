// The subcommand `mix`.
#pragma once

#include "shared.h"

namespace plumb::app {

Command mix_command();

}  // namespace plumb::app
