// How the program tells that something failed.
#pragma once

namespace plumb::app {

/// To be called where an exception was caught: one line about it on standard error. Returns the
/// exit code that goes with it.
int tell_failure() noexcept;

}  // namespace plumb::app
