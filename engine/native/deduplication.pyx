# cython: language_level=3, boundscheck=False, wraparound=False
"""engine.domain.deduplication.check_and_add in C, since it runs for every event."""

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
    CAPACITY = 512

cdef unsigned long long PRIME
cdef Py_ssize_t MAX_KEPT_BYTES


def configure(unsigned long long prime, Py_ssize_t fingerprint_bytes, Py_ssize_t window_events):
    """Sets the constants of engine.domain.deduplication."""
    global PRIME, MAX_KEPT_BYTES
    PRIME, MAX_KEPT_BYTES = prime, (window_events - 1) * fingerprint_bytes
    assert fingerprint_bytes == sizeof(PRIME)


cdef inline Py_ssize_t append(char* buffer, Py_ssize_t used, str text) except -2:
    """Appends the text and a line feed; returns the new length, -1 if they do not fit."""
    cdef Py_ssize_t size
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    if used < 0 or used + size + 1 > CAPACITY:
        return -1
    memcpy(buffer + used, data, size)
    buffer[used + size] = b"\n"
    return used + size + 1


cdef unsigned long long remainder(const unsigned char* data, Py_ssize_t size) noexcept:
    """Returns the bytes, as a big-endian number, modulo ``PRIME``."""
    cdef unsigned long long rest = 0, word = 0
    cdef Py_ssize_t i, first = size % 8
    for i in range(first):
        rest = rest << 8 | data[i]
    i = first
    while i < size:
        word = 0
        for _ in range(8):
            word = word << 8 | data[i]
            i += 1
        rest = TIMES_2_64_PLUS(rest, word, PRIME)
    return rest


def check_and_add(bytes seen, str kind, str event_id, str source):
    """As the plain function; ``NotImplemented`` if the event's name does not fit the buffer."""
    cdef char buffer[CAPACITY]
    cdef unsigned char fingerprint[8]
    cdef unsigned long long rest
    cdef Py_ssize_t i, kept, size = PyBytes_GET_SIZE(seen)
    cdef Py_ssize_t used = append(buffer, append(buffer, append(buffer, 0, kind), event_id), source)
    cdef const char* known = PyBytes_AS_STRING(seen)
    cdef bytes new
    if used < 0:
        return NotImplemented
    rest = remainder(<unsigned char*>buffer, used - 1)
    for i in range(8):
        fingerprint[7 - i] = rest & 0xFF
        rest >>= 8
    for i in range(0, size, 8):
        if memcmp(known + i, fingerprint, 8) == 0:
            return None
    kept = size if size <= MAX_KEPT_BYTES else MAX_KEPT_BYTES
    new = PyBytes_FromStringAndSize(NULL, kept + 8)
    memcpy(PyBytes_AS_STRING(new), known + size - kept, kept)
    memcpy(PyBytes_AS_STRING(new) + kept, fingerprint, 8)
    return new
