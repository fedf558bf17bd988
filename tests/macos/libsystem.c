/* A stand-in under Linux for the calls of Apple's libSystem that dotsctl makes through ctypes.
 *
 * The structures have the layouts of xnu's public headers, which the comments name. The kernel's values are fixed:
 * an M2 with macOS 26.1 on mains power; some of them come from the environment, so that a test can choose them.
 */

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
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

/* xnu bsd/sys/proc_info.h */
struct proc_bsdinfo {
    uint32_t pbi_flags, pbi_status, pbi_xstatus, pbi_pid, pbi_ppid;
    uint32_t pbi_uid, pbi_gid, pbi_ruid, pbi_rgid, pbi_svuid, pbi_svgid, rfu_1;
    char pbi_comm[16];
    char pbi_name[2 * 16];
    uint32_t pbi_nfiles, pbi_pgid, pbi_pjobc, e_tdev, e_tpgid;
    int32_t pbi_nice;
    uint64_t pbi_start_tvsec, pbi_start_tvusec;
};

enum { PROC_PIDTBSDINFO = 3, PROC_FLAG_TRACED = 2, SRUN = 2, SSTOP = 4 };

/* The state letter of /proc/PID/stat; 0 when there is no such process. */
static char state_of(int pid)
{
    char path[32], text[512], *end;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    end = strrchr(text, ')');
    return end && end[1] ? end[2] : 0;
}

int proc_pidinfo(int pid, int flavor, uint64_t argument, void *buffer, int buffer_bytes)
{
    struct proc_bsdinfo found = {0};
    char state = state_of(pid);
    if (flavor != PROC_PIDTBSDINFO || argument || buffer_bytes < (int)sizeof found) {
        errno = EINVAL;
        return 0;
    }
    if (!state || state == 'Z') {
        errno = ESRCH;
        return 0;
    }
    found.pbi_pid = (uint32_t)pid;
    found.pbi_status = toupper(state) == 'T' ? SSTOP : SRUN;
    found.pbi_flags = state == 't' ? PROC_FLAG_TRACED : 0;
    memcpy(buffer, &found, sizeof found);
    return sizeof found;
}

/* xnu bsd/sys/resource.h */
struct rusage_info_v4 {
    uint8_t ri_uuid[16];
    uint64_t ri_user_time, ri_system_time, ri_pkg_idle_wkups, ri_interrupt_wkups, ri_pageins, ri_wired_size;
    uint64_t ri_resident_size, ri_phys_footprint, ri_proc_start_abstime, ri_proc_exit_abstime;
    uint64_t ri_child_user_time, ri_child_system_time, ri_child_pkg_idle_wkups, ri_child_interrupt_wkups;
    uint64_t ri_child_pageins, ri_child_elapsed_abstime, ri_diskio_bytesread, ri_diskio_byteswritten;
    uint64_t ri_cpu_time_qos_default, ri_cpu_time_qos_maintenance, ri_cpu_time_qos_background;
    uint64_t ri_cpu_time_qos_utility, ri_cpu_time_qos_legacy, ri_cpu_time_qos_user_initiated;
    uint64_t ri_cpu_time_qos_user_interactive, ri_billed_system_time, ri_serviced_system_time, ri_logical_writes;
    uint64_t ri_lifetime_max_phys_footprint, ri_instructions, ri_cycles, ri_billed_energy, ri_serviced_energy;
    uint64_t ri_interval_max_phys_footprint, ri_runnable_time;
};

enum { RUSAGE_INFO_V4 = 4 };

int proc_pid_rusage(int pid, int flavor, void *buffer)
{
    struct rusage_info_v4 found;
    char path[32], line[256];
    unsigned long long kib;
    int lines = 0;
    if (flavor != RUSAGE_INFO_V4) {
        errno = EINVAL;
        return -1;
    }
    memset(&found, 0xEE, sizeof found); /* a field that is read at a wrong place shows */
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "VmRSS: %llu", &kib) == 1)
            found.ri_phys_footprint = kib << 10, lines++;
        if (sscanf(line, "VmHWM: %llu", &kib) == 1)
            found.ri_lifetime_max_phys_footprint = kib << 10, lines++;
    }
    if (file)
        fclose(file);
    if (lines != 2) {
        errno = ESRCH;
        return -1;
    }
    memcpy(buffer, &found, sizeof found);
    return 0;
}

/* IOKit/ps/IOPowerSources.h: -2.0 on mains power, else seconds. */
double IOPSGetTimeRemainingEstimate(void)
{
    const char *seconds = getenv("STAND_IN_BATTERY_S");
    return seconds ? atof(seconds) : -2.0;
}
