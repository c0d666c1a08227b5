# cython: language_level=3, boundscheck=False, wraparound=False
"""engine.domain.partitioner.murmur2 in C, since it runs for every user and address."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef enum:
    M = 0x5BD1E995

cdef unsigned int SEED = 0x9747B28C


def murmur2(bytes data):
    """The 32-bit murmur2 hash of Kafka's clients, unsigned."""
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t left = PyBytes_GET_SIZE(data)
    cdef unsigned int h = SEED ^ <unsigned int>left
    cdef unsigned int k
    while left >= 4:
        k = at[0] | at[1] << 8 | at[2] << 16 | <unsigned int>at[3] << 24
        k *= <unsigned int>M
        k ^= k >> 24
        h = h * <unsigned int>M ^ k * <unsigned int>M
        at += 4
        left -= 4
    if left:
        k = at[0]
        if left > 1:
            k |= at[1] << 8
        if left > 2:
            k |= at[2] << 16
        h = (h ^ k) * <unsigned int>M
    h ^= h >> 13
    h *= <unsigned int>M
    return h ^ h >> 15
