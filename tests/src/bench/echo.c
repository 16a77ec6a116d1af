// A plugin that does nothing: hands on the prevResult of its configuration. What
// a chain costs with it is what a chain costs with one more plugin.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
  static char text[1 << 20];
  size_t length = fread(text, 1, sizeof text - 1, stdin);
  text[length] = 0;
  const char *verb = getenv("CNI_COMMAND");
  char *from = strstr(text, "\"prevResult\":");
  if (!verb || strcmp(verb, "ADD") || !from) return 0;
  from = strchr(from, '{');
  int depth = 0;
  for (char *at = from; at && *at; at++) {
    depth += (*at == '{') - (*at == '}');
    if (depth == 0) return fwrite(from, 1, at - from + 1, stdout) == 0;
  }
  return 1;
}
