// measure RUNS STDIN PROGRAM: runs the program so often, one after the other,
// and prints per run: wall us, CPU us, peak memory KiB, exit code. Small and
// static, because a child's peak memory includes that of the parent it was
// forked from.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  for (int i = atoi(argv[1]); i > 0; i--) {
    struct timespec a, b;
    struct rusage u;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &a);
    pid_t pid = vfork();
    if (pid < 0) return 1;
    if (pid == 0) {
      int in = open(argv[2], O_RDONLY), out = open("/dev/null", O_WRONLY);
      if (in < 0 || out < 0) _exit(126);
      dup2(in, 0), dup2(out, 1), dup2(out, 2);
      execl(argv[3], argv[3], (char *)0);
      _exit(127);
    }
    if (wait4(pid, &status, 0, &u) != pid) return 1;
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%ld %ld %ld %d\n",
           (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000,
           (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_usec,
           u.ru_maxrss, WEXITSTATUS(status));
  }
  return 0;
}
