/* A stand-in under Linux for the calls of Apple's libSystem that dotsctl makes through ctypes.
 *
 * The structures have the layouts of xnu's public headers, which the comments name. The kernel's values are fixed:
 * an M2 with macOS 26.1; two of them come from the environment, so that a test can choose them.
 */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int answer(void *out, size_t *out_bytes, const void *value, size_t bytes)
{
    if (*out_bytes < bytes) {
        errno = ENOMEM;
        return -1;
    }
    memcpy(out, value, bytes);
    *out_bytes = bytes;
    return 0;
}

/* xnu bsd/sys/sysctl.h */
int sysctlbyname(const char *name, void *out, size_t *out_bytes, void *new_value, size_t new_bytes)
{
    (void)new_value, (void)new_bytes;
    if (!strcmp(name, "machdep.cpu.brand_string"))
        return answer(out, out_bytes, "Apple M2", sizeof "Apple M2");
    if (!strcmp(name, "kern.osversion"))
        return answer(out, out_bytes, "25B78", sizeof "25B78");
    if (!strcmp(name, "hw.memsize")) {
        const char *chosen = getenv("STAND_IN_MEMSIZE");
        uint64_t bytes = chosen ? strtoull(chosen, NULL, 10) : 16ULL << 30;
        return answer(out, out_bytes, &bytes, sizeof bytes);
    }
    if (!strcmp(name, "iogpu.wired_limit_mb")) {
        const char *chosen = getenv("STAND_IN_WIRED_LIMIT_MB");
        int32_t mib = chosen ? atoi(chosen) : 0;
        return answer(out, out_bytes, &mib, sizeof mib);
    }
    errno = ENOENT;
    return -1;
}
