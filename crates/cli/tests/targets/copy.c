/* Copies standard input to standard output through a probed function, and says on standard error
 * how much, and what the streams are. */
#include "target.h"
#include <sys/stat.h>

static unsigned long chunks, bytes;
T ssize_t t_copy(char *buffer, size_t size)
{
    chunks++;
    ssize_t n = read(0, buffer, size);
    for (ssize_t done = 0; done < n;) {
        ssize_t part = write(1, buffer + done, (size_t)(n - done));
        CHECK(part > 0);
        done += part;
    }
    return n;
}
int main(void)
{
    static char buffer[4096];
    ssize_t n;
    while ((n = t_copy(buffer, sizeof buffer)) > 0)
        bytes += (unsigned long)n;
    struct stat streams[3];
    for (int i = 0; i < 3; i++)
        CHECK(!fstat(i, &streams[i]));
    fprintf(stderr, "%lu bytes, terminals %d %d %d, kinds %o %o %o\n", bytes, isatty(0), isatty(1),
            isatty(2), streams[0].st_mode & S_IFMT, streams[1].st_mode & S_IFMT,
            streams[2].st_mode & S_IFMT);
    return (int)(bytes % 100);
}
