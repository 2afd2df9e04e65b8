#include <ATen/ATen.h>
#include <plumb/error.h>
#include <plumb/version.h>

#include <cstdio>

int main() {
  if (at::ones({2, 3}).sum().item<double>() != 6.0) return 1;
  std::printf("plumb %s\n", plumb::version());
  return plumb::exit_code(plumb::ErrorKind::bad_file) == 3 ? 0 : 1;
}
