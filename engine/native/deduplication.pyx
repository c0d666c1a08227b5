# cython: language_level=3, boundscheck=False, wraparound=False
"""What :func:`engine.domain.deduplication.remember` does, in C: it is done for every event."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memcmp, memcpy

cdef extern from *:
    """
    #define TIMES_2_64_PLUS(high, low, prime) \
        ((unsigned long long)((((unsigned __int128)(high)) << 64 | (low)) % (prime)))
    """
    unsigned long long TIMES_2_64_PLUS(
        unsigned long long high, unsigned long long low, unsigned long long prime) noexcept

cdef enum:
    ROOM = 512

cdef unsigned long long PRIME
cdef Py_ssize_t WIDTH, MOST


def configure(unsigned long long prime, Py_ssize_t width, Py_ssize_t remembered):
    global PRIME, WIDTH, MOST
    PRIME, WIDTH, MOST = prime, width, (remembered - 1) * width
    assert WIDTH == sizeof(PRIME)


cdef inline Py_ssize_t add(char* room, Py_ssize_t used, str text) except -2:
    """The length with the text and a line's end after it; -1 if there is no room for it."""
    cdef Py_ssize_t size
    cdef const char* at = PyUnicode_AsUTF8AndSize(text, &size)
    if used < 0 or used + size + 1 > ROOM:
        return -1
    memcpy(room + used, at, size)
    room[used + size] = b"\n"
    return used + size + 1


cdef unsigned long long remainder(const unsigned char* at, Py_ssize_t size) noexcept:
    """Of the number that the bytes are, big-endian, by ``PRIME``."""
    cdef unsigned long long rest = 0, word = 0
    cdef Py_ssize_t i, first = size % 8
    for i in range(first):
        rest = rest << 8 | at[i]
    i = first
    while i < size:
        word = 0
        for _ in range(8):
            word = word << 8 | at[i]
            i += 1
        rest = TIMES_2_64_PLUS(rest, word, PRIME)
    return rest


def remember(bytes seen, str kind, str event_id, str source):
    """As the plain one; ``NotImplemented`` if the event's name is longer than what is read here."""
    cdef char room[ROOM]
    cdef unsigned char mark[8]
    cdef unsigned long long rest
    cdef Py_ssize_t i, kept, size = PyBytes_GET_SIZE(seen)
    cdef Py_ssize_t used = add(room, add(room, add(room, 0, kind), event_id), source)
    cdef const char* known = PyBytes_AS_STRING(seen)
    cdef bytes new
    if used < 0:
        return NotImplemented
    rest = remainder(<unsigned char*>room, used - 1)
    for i in range(8):
        mark[7 - i] = rest & 0xFF
        rest >>= 8
    for i in range(0, size, 8):
        if memcmp(known + i, mark, 8) == 0:
            return None
    kept = size if size <= MOST else MOST
    new = PyBytes_FromStringAndSize(NULL, kept + 8)
    memcpy(PyBytes_AS_STRING(new), known + size - kept, kept)
    memcpy(PyBytes_AS_STRING(new) + kept, mark, 8)
    return new
