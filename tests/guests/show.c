/*
 * Does what its arguments say, one after the other, and shows it: env:NAME, file:PATH, write:PATH=TEXT, list:PATH, cwd; "stay" then stays until
 * it is ended, "exit:N" ends with a status, "trap" traps.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int failed;

static void fail(const char *what) {
  printf("%s: %s\n", what, strerror(errno));
  failed = 1;
}

static void show(const char *path) {
  char text[4096];
  FILE *file = fopen(path, "r");
  if (!file) {
    fail(path);
    return;
  }
  text[fread(text, 1, sizeof text - 1, file)] = 0;
  fclose(file);
  printf("%s=%s\n", path, text);
}

static void write_to(char *path) {
  char *text = strchr(path, '=');
  if (text) *text++ = 0;
  FILE *file = fopen(path, "w");
  if (!file || fputs(text ? text : "", file) < 0 || fclose(file)) fail(path);
  else printf("wrote %s\n", path);
}

static void list(const char *path) {
  DIR *folder = opendir(path);
  if (!folder) {
    fail(path);
    return;
  }
  printf("%s has", path);
  for (struct dirent *entry; (entry = readdir(folder));)
    if (entry->d_name[0] != '.') printf(" %s", entry->d_name);
  printf("\n");
  closedir(folder);
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    char *word = argv[i], folder[4096];
    if (!strncmp(word, "env:", 4)) printf("%s=%s\n", word + 4, getenv(word + 4) ? getenv(word + 4) : "(none)");
    else if (!strncmp(word, "file:", 5)) show(word + 5);
    else if (!strncmp(word, "write:", 6)) write_to(word + 6);
    else if (!strncmp(word, "list:", 5)) list(word + 5);
    else if (!strcmp(word, "cwd")) printf("cwd=%s\n", getcwd(folder, sizeof folder) ? folder : "(none)");
    else if (!strncmp(word, "exit:", 5)) return atoi(word + 5);
    else if (!strcmp(word, "trap")) __builtin_trap();
    else if (!strcmp(word, "stay")) {
      printf("stays\n");
      fflush(stdout);
      for (;;) sleep(1000);
    }
  }
  return failed;
}
