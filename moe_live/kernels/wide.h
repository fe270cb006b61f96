/* For loops that are compiled twice: for any processor, and (WIDE) for those that take 32 bytes at once (IS_WIDE).
 * NARROW does without the latter: tests try the former with it. */

#if defined __x86_64__ && defined __GNUC__ && !defined NARROW
#define HAS_WIDE 1
#define WIDE __attribute__((target("avx2")))
#define IS_WIDE __builtin_cpu_supports("avx2")
#else
#define HAS_WIDE 0
#define WIDE
#define IS_WIDE 0
#endif
