/* Cases as a folder of JSON files: adding one needs no code. */
#ifndef TESTS_CASE_RIG_H
#define TESTS_CASE_RIG_H

/* Calls run with the name of every "*.json" in a folder, which must exist. Returns how many there are. */
int case_rig_each(const char *folder, void (*run)(const char *name));

#endif
