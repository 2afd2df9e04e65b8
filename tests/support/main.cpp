// Runs the tests of a program, and tells ctest by exit code 77 that every one of them was skipped.
#include <gtest/gtest.h>

#include "plumb/machine.h"

int main(int argc, char** argv) {
  plumb::restart_with_right_blas(argv);
  constexpr int kAllSkipped = 77;  // ctest's SKIP_RETURN_CODE in tests/CMakeLists.txt
  testing::InitGoogleTest(&argc, argv);
  const int result = RUN_ALL_TESTS();
  const auto& tests = *testing::UnitTest::GetInstance();
  if (result == 0 && tests.test_to_run_count() == 0) return 1;  // a filter that matches nothing
  const bool all_skipped =
      tests.skipped_test_count() > 0 && tests.skipped_test_count() == tests.test_to_run_count();
  return result == 0 && all_skipped ? kAllSkipped : result;
}
