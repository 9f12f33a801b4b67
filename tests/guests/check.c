/*
 * Looks at what a container was given and says "ok NAME" or "FAIL NAME" for each; exits 0 when all are ok.
 * Arguments: "one" "two words" ""; environment: SKIFF_CHECK=a=b c; working directory: /work with a file here.txt;
 * input: "from stdin"; /etc/rootfs.txt in the image; /data mounted read-only with data.txt; /rw mounted writable.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int failed;

static void check(const char *name, int ok) {
  printf("%s %s%s%s\n", ok ? "ok" : "FAIL", name, ok ? "" : ": ", ok ? "" : strerror(errno));
  failed |= !ok;
}

static int holds(const char *path, const char *want) {
  char text[100] = {0};
  int file = open(path, O_RDONLY);
  if (file < 0) return 0;
  ssize_t count = read(file, text, sizeof text - 1);
  close(file);
  return count >= 0 && !strcmp(text, want);
}

static int writes(const char *path) {
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file < 0) return 0;
  int ok = write(file, "new", 3) == 3;
  close(file);
  return ok && holds(path, "new");
}

int main(int argc, char **argv) {
  const char *value = getenv("SKIFF_CHECK");
  char input[100] = {0};
  check("args", argc == 4 && !strcmp(argv[1], "one") && !strcmp(argv[2], "two words") && !*argv[3]);
  check("env", value && !strcmp(value, "a=b c"));
  check("stdin", read(0, input, sizeof input - 1) >= 0 && !strcmp(input, "from stdin"));
  check("cwd", holds("here.txt", "here"));
  check("rootfs-read", holds("/etc/rootfs.txt", "rootfs"));
  check("rootfs-write", writes("/etc/new.txt"));
  check("mount-read", holds("/data/data.txt", "data"));
  check("mount-write", writes("/rw/new.txt"));
  check("mount-read-only", open("/data/no.txt", O_WRONLY | O_CREAT, 0644) < 0);
  fprintf(stderr, "checked\n");
  return failed;
}
