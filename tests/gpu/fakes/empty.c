/* A library of which only the presence counts. */
int fake_empty(void);
int fake_empty(void) {
    return 0;
}
