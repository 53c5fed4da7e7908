/* Walks a folder of cases: see case_rig.h. */
#include "tests/unit/case_rig.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

int case_rig_each(const char *folder, void (*run)(const char *name)) {
    int cases = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strstr(entry->d_name, ".json") != NULL) {
            run(entry->d_name);
            cases++;
        }
    closedir(dir);
    return cases;
}
