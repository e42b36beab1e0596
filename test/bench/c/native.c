// The kernels on the host processor: for each of the arguments, rounds of one kernel, nanoseconds of CPU time of the fastest of ten runs, and the result.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "kernels.c"

static double cpu_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1e9 + now.tv_nsec;
}

int main(int count, char **arguments) {
  for (int kernel = 0; kernel < count - 1; kernel++) {
    double fastest = 1e18;
    u32 result = 0;
    for (int attempt = 0; attempt < 10; attempt++) {
      double start = cpu_nanoseconds();
      result = run(kernel, atoi(arguments[kernel + 1]));
      double taken = cpu_nanoseconds() - start;
      if (taken < fastest) fastest = taken;
    }
    printf("%d %.0f %u\n", kernel, fastest, result);
  }
}
