/* Asks for a function that no host of ours has. */
__attribute__((import_module("env"), import_name("frobnicate"))) int frobnicate(void);

int main(void) { return frobnicate(); }
