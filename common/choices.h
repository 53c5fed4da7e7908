/* The names in JSON of what a job chooses from, indexed by the enums of spec.h, NULL at the end. */
#ifndef COMMON_CHOICES_H
#define COMMON_CHOICES_H

extern const char *const choices_precision[], *const choices_backend[], *const choices_norm[], *const choices_init[];
extern const char *const choices_shortcut[], *const choices_activation[], *const choices_downsampling[];
extern const char *const choices_schedule[], *const choices_optimizer[], *const choices_selection[];

#endif
