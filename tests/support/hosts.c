/* Names of hosts from a file, laid under a program that is started with this library as LD_PRELOAD.
 *
 * A name whose address changes while a mount stands needs a name server, or root and the machine's own /etc/hosts. This
 * needs a compiler. HOSTS (a macro) is a file with one address; it is read for each question about NAME (a macro too).
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(RTLD_NEXT,
                                                                                               "getaddrinfo");
    char address[64] = "";
    FILE *file;

    if (node == NULL || strcmp(node, NAME) != 0)
        return next(node, service, hints, found);
    file = fopen(HOSTS, "r");
    if (file == NULL || fgets(address, sizeof address, file) == NULL)
        address[0] = 0;
    if (file != NULL)
        fclose(file);
    address[strcspn(address, "\n")] = 0;
    return address[0] ? next(address, service, hints, found) : EAI_NONAME;
}
