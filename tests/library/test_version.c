// SPDX-License-Identifier: MIT
// The version in the public headers, in the library and in the build files is one.
#include <stdio.h>
#include <string.h>

#include <fulmen/fulmen.h>

#if FM_VERSION_NUMBER < 100
#error "FM_VERSION_NUMBER cannot be compared by the preprocessor, or is below that of 0.1.0"
#endif

int main(void)
{
    char numbers[64];
    snprintf(numbers, sizeof(numbers), "%d.%d.%d", FM_VERSION_MAJOR, FM_VERSION_MINOR, FM_VERSION_PATCH);
    const char *const found[] = {numbers, FM_VERSION_STRING, fm_version()};
    int wrong = FM_VERSION_NUMBER != FM_VERSION_MAJOR * 10000 + FM_VERSION_MINOR * 100 + FM_VERSION_PATCH;
    for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++) {
        if (strcmp(found[i], PROJECT_VERSION) != 0) {
            printf("expected version %s, found %s\n", PROJECT_VERSION, found[i]);
            wrong = 1;
        }
    }
    return wrong;
}
