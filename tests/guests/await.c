/* Waits until the file of its first argument is there, then exits with the status of its second. */
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  while (argc > 1 && access(argv[1], F_OK)) usleep(20000);
  return argc > 2 ? atoi(argv[2]) : 0;
}
