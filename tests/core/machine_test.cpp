#include "plumb/machine.h"

#include <gtest/gtest.h>

namespace plumb {
namespace {

// The test programs start again like `plumb` does, so nothing is left to mend in them.
TEST(Machine, TheBlasKnowsTheProcessor) { EXPECT_EQ(overlooked_blas_core(), ""); }

}  // namespace
}  // namespace plumb
