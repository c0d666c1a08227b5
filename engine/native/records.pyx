# cython: language_level=3, boundscheck=False, wraparound=False
"""What is written for every change of a user, in C: its row, and the records of engine/documents/user_documents.py.

Records are byte for byte what the plain functions make of the same parts.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Realloc
from libc.string cimport memcpy, memset, strlen

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object)
    const char* PyUnicode_1BYTE_DATA(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)
    bytes PyUnicode_AsUTF8String(object)

cdef enum:
    LONGEST_ESCAPE = 6
    MOST_STATES = 256

cdef char ESCAPES[256]  # by byte: 0 as it is, u by number, or the letter after the backslash


cdef void _fill_escapes():
    cdef int c
    memset(ESCAPES, 0, 256)
    for c in range(0x20):
        ESCAPES[c] = b"u"
    for c, letter in zip(b'"\\\n\r\t\f\b', b'"\\nrtfb'):
        ESCAPES[c] = letter


_fill_escapes()

# One buffer for all. While it is filled nothing lets another thread in: no Python code is called, and
# nothing is made that the garbage collector counts.
cdef char* buffer = NULL
cdef Py_ssize_t room = 0, used = 0


cdef int need(Py_ssize_t more) except -1:
    global buffer, room
    cdef Py_ssize_t wanted
    cdef char* larger
    if used + more > room:
        wanted = 2 * (used + more)
        larger = <char*>PyMem_Realloc(buffer, wanted)
        if larger == NULL:
            raise MemoryError
        buffer, room = larger, wanted
    return 0


cdef int put(const char* at, Py_ssize_t size) except -1:
    global used
    need(size)
    memcpy(buffer + used, at, size)
    used += size
    return 0


cdef inline int say(const char* text) except -1:
    return put(text, strlen(text))


cdef int copy(str text) except -1:
    if PyUnicode_IS_ASCII(text):
        return put(PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))
    encoded = PyUnicode_AsUTF8String(text)
    return put(PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))


cdef int put_quoted(const char* at, Py_ssize_t size) except -1:
    global used
    cdef Py_ssize_t i
    cdef unsigned char c
    cdef char* to
    need(2 + size * LONGEST_ESCAPE)
    to = buffer + used
    to[0] = b'"'
    to += 1
    for i in range(size):
        c = <unsigned char>at[i]
        if not ESCAPES[c]:
            to[0] = c
            to += 1
        else:
            to[0] = b"\\"
            to[1] = ESCAPES[c]
            to += 2
            if ESCAPES[c] == b"u":
                to[0] = to[1] = b"0"
                to[2] = b"0123456789abcdef"[c >> 4]
                to[3] = b"0123456789abcdef"[c & 15]
                to += 4
    to[0] = b'"'
    used = to + 1 - buffer
    return 0


cdef int quote(object text) except -1:
    """A string in quotes, or null."""
    if text is None:
        return say(b"null")
    if PyUnicode_IS_ASCII(text):
        return put_quoted(PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))
    encoded = PyUnicode_AsUTF8String(text)
    return put_quoted(PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))


cdef str group_of(list states, tuple paths, Py_ssize_t i):
    cdef Py_ssize_t slot = (<tuple>states[i])[0]
    return paths[slot - 1] if slot else ""


cdef int put_in_order(Py_ssize_t* order, list states, tuple paths, bint ordered) except -1:
    """States of one product, which come together, by their groups."""
    cdef Py_ssize_t i, at
    for i in range(len(states)):
        at = i
        if not ordered:
            group = group_of(states, paths, i)
            while (
                at > 0
                and (<tuple>states[order[at - 1]])[1] == (<tuple>states[i])[1]
                and group_of(states, paths, order[at - 1]) > group
            ):
                order[at] = order[at - 1]
                at -= 1
        order[at] = i
    return 0


def user_state(
    str tenant, str user, location, mail, tuple addresses, str assigned, list states, tuple paths,
    list sinces, Py_ssize_t revision, str now, str cause, bint ordered,
):
    """``states`` as :class:`engine.documents.user_documents.Form` has them; ``sinces``: theirs, None if all are now.

    None if there are more states than are written here.
    """
    global used
    cdef Py_ssize_t order[MOST_STATES]
    cdef Py_ssize_t i, n, slot
    if len(states) > MOST_STATES:
        return None
    put_in_order(order, states, paths, ordered)
    used = 0
    say(b'{"tenant":"')
    copy(tenant)
    say(b'","user":"')
    copy(user)
    say(b'","usageLocation":')
    quote(location)
    say(b',"mail":')
    quote(mail)
    say(b',"proxyAddresses":')
    quote_all(addresses)
    say(b',"assignedLicenses":')
    copy(assigned)
    say(b',"licenseAssignmentStates":[')
    for n in range(len(states)):
        i = order[n]
        if n:
            say(b",")
        number, before, between = <tuple>states[i]
        slot = number
        copy(before)
        if slot:
            say(b'"')
            copy(paths[slot - 1])
            say(b'"')
        else:
            say(b"null")
        copy(between)
        copy(now if sinces is None else sinces[i])
        say(b'"}')
    say(b'],"revision":')
    copy(str(revision))
    say(b',"updatedAt":"')
    copy(now)
    say(b'","causedBy":')
    quote(cause)
    say(b"}")
    return PyBytes_FromStringAndSize(buffer, used)


cdef int put_hex(bytes value) except -1:
    global used
    cdef Py_ssize_t i
    cdef unsigned char c
    need(2 * PyBytes_GET_SIZE(value))
    for i in range(PyBytes_GET_SIZE(value)):
        c = <unsigned char>PyBytes_AS_STRING(value)[i]
        buffer[used] = b"0123456789abcdef"[c >> 4]
        buffer[used + 1] = b"0123456789abcdef"[c & 15]
        used += 2
    return 0


cdef int quote_all(tuple texts) except -1:
    cdef Py_ssize_t i
    say(b"[")
    for i in range(len(texts)):
        if i:
            say(b",")
        quote(texts[i])
    return say(b"]")


def user_row(
    bint known, location, upn, mail, tuple addresses, given, tuple groups, bytes since, paths,
    str entries, str problems, sinces, revision, bytes seen,
):
    """The row of a user without pending work, as :func:`engine.state.user_row_codecs.encode_user` has it."""
    global used
    cdef str since_when
    if isinstance(sinces, tuple):
        since_when = "[" + ",".join(map(str, sinces)) + "]"
    else:
        since_when = str(sinces)
    used = 0
    say(b"[true," if known else b"[false,")
    quote(location)
    say(b",")
    quote(upn)
    say(b",")
    quote(mail)
    say(b",")
    quote_all(addresses)
    say(b",")
    say(b"true") if given is True else quote(given)
    say(b",")
    quote_all(groups)
    say(b',"')
    put_hex(since)
    say(b'",')
    say(b"true") if paths is True else quote_all(paths)
    say(b",")
    quote(entries)
    say(b",")
    copy(problems)
    say(b",")
    copy(since_when)
    say(b",")
    copy(str(revision))
    say(b',"')
    put_hex(seen)
    say(b'",null]')
    return PyBytes_FromStringAndSize(buffer, used)


def change_audit(
    str tenant, str user, str before, str after, str why, bint failed, str now, str cause
):
    """``before`` and ``after``: assigned licences; ``why``: what could not be done."""
    global used
    used = 0
    say(b'{"time":"')
    copy(now)
    say(b'","tenant":"')
    copy(tenant)
    say(b'","activity":"Change user license","category":"UserManagement","target":{"type":"User","id":"')
    copy(user)
    say(b'"},"initiatedBy":"Seatflow","result":"')
    say(b"failure" if failed else b"success")
    say(b'","resultReason":')
    quote(why)
    say(b',"modifiedProperties":[')
    if before != after:
        say(b'{"name":"AssignedLicense","oldValue":')
        copy(before)
        say(b',"newValue":')
        copy(after)
        say(b"}")
    say(b'],"causedBy":')
    quote(cause)
    say(b"}")
    return PyBytes_FromStringAndSize(buffer, used)
