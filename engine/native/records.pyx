# cython: language_level=3, boundscheck=False, wraparound=False
"""Writes what every change of a user writes, in C: its row and its records.

Records are byte for byte those of the plain functions in engine/documents/user_documents.py; rows
are the JSON of what engine/state/user_row_codecs.py encodes.
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
    MAX_ESCAPE_BYTES = 6
    MAX_STATES = 256

cdef char ESCAPES[256]  # by byte: 0 as it is, u by number, or the letter after the backslash


cdef void _fill_escapes():
    cdef int c
    memset(ESCAPES, 0, 256)
    for c in range(0x20):
        ESCAPES[c] = b"u"
    for c, letter in zip(b'"\\\n\r\t\f\b', b'"\\nrtfb'):
        ESCAPES[c] = letter


_fill_escapes()

# One buffer for all calls. No other thread can get in while it is filled: no Python code runs, and
# no object is created that the garbage collector tracks.
cdef char* buffer = NULL
cdef Py_ssize_t capacity = 0, used = 0


cdef int reserve(Py_ssize_t more) except -1:
    global buffer, capacity
    cdef Py_ssize_t wanted
    cdef char* larger
    if used + more > capacity:
        wanted = 2 * (used + more)
        larger = <char*>PyMem_Realloc(buffer, wanted)
        if larger == NULL:
            raise MemoryError
        buffer, capacity = larger, wanted
    return 0


cdef int write_bytes(const char* at, Py_ssize_t size) except -1:
    global used
    reserve(size)
    memcpy(buffer + used, at, size)
    used += size
    return 0


cdef inline int write_literal(const char* text) except -1:
    return write_bytes(text, strlen(text))


cdef int write_text(str text) except -1:
    if PyUnicode_IS_ASCII(text):
        return write_bytes(PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))
    encoded = PyUnicode_AsUTF8String(text)
    return write_bytes(PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))


cdef int write_escaped(const char* at, Py_ssize_t size) except -1:
    global used
    cdef Py_ssize_t i
    cdef unsigned char c
    cdef char* to
    reserve(2 + size * MAX_ESCAPE_BYTES)
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


cdef int write_quoted(object text) except -1:
    """Writes a JSON string, or null."""
    if text is None:
        return write_literal(b"null")
    if PyUnicode_IS_ASCII(text):
        return write_escaped(PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))
    encoded = PyUnicode_AsUTF8String(text)
    return write_escaped(PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))


cdef str group_of(list states, tuple paths, Py_ssize_t i):
    cdef Py_ssize_t path_index = (<tuple>states[i])[0]
    return paths[path_index - 1] if path_index else ""


cdef int sort_states(Py_ssize_t* order, list states, tuple paths, bint ordered) except -1:
    """Sorts the states of one product, which are adjacent, by their groups."""
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


def user_licenses(fields):
    """Writes the fields of a UserLicensesFields; returns None if it has more states than fit here."""
    cdef str tenant, user, assigned, now, cause
    cdef tuple addresses, paths
    cdef list states, sinces
    cdef Py_ssize_t revision
    cdef bint ordered
    (
        tenant, user, location, effective_location, mail, nickname, addresses, assigned, states,
        paths, sinces, revision, now, cause, ordered,
    ) = <tuple>fields
    global used
    cdef Py_ssize_t order[MAX_STATES]
    cdef Py_ssize_t i, n, path_index
    if len(states) > MAX_STATES:
        return None
    sort_states(order, states, paths, ordered)
    used = 0
    write_literal(b'{"tenant":"')
    write_text(tenant)
    write_literal(b'","user":"')
    write_text(user)
    write_literal(b'","usageLocation":')
    write_quoted(location)
    write_literal(b',"effectiveUsageLocation":')
    write_quoted(effective_location)
    write_literal(b',"mail":')
    write_quoted(mail)
    write_literal(b',"mailNickname":')
    write_quoted(nickname)
    write_literal(b',"proxyAddresses":')
    write_quoted_list(addresses)
    write_literal(b',"assignedLicenses":')
    write_text(assigned)
    write_literal(b',"licenseAssignmentStates":[')
    for n in range(len(states)):
        i = order[n]
        if n:
            write_literal(b",")
        path_index, before, between = <tuple>states[i]
        write_text(before)
        if path_index:
            write_literal(b'"')
            write_text(paths[path_index - 1])
            write_literal(b'"')
        else:
            write_literal(b"null")
        write_text(between)
        write_text(now if sinces is None else sinces[i])
        write_literal(b'"}')
    write_literal(b'],"revision":')
    write_text(str(revision))
    write_literal(b',"updatedAt":"')
    write_text(now)
    write_literal(b'","causedBy":')
    write_quoted(cause)
    write_literal(b"}")
    return PyBytes_FromStringAndSize(buffer, used)


cdef int write_hex(bytes value) except -1:
    global used
    cdef Py_ssize_t i
    cdef unsigned char c
    reserve(2 * PyBytes_GET_SIZE(value))
    for i in range(PyBytes_GET_SIZE(value)):
        c = <unsigned char>PyBytes_AS_STRING(value)[i]
        buffer[used] = b"0123456789abcdef"[c >> 4]
        buffer[used + 1] = b"0123456789abcdef"[c & 15]
        used += 2
    return 0


cdef int write_quoted_list(tuple texts) except -1:
    cdef Py_ssize_t i
    write_literal(b"[")
    for i in range(len(texts)):
        if i:
            write_literal(b",")
        write_quoted(texts[i])
    return write_literal(b"]")


cdef int write_value(object value) except -1:
    """Writes JSON of texts, whole numbers, booleans, null, lists, tuples and dictionaries."""
    cdef bint first = True
    if value is None or isinstance(value, str):
        return write_quoted(value)
    if isinstance(value, bool):
        return write_literal(b"true" if value else b"false")
    if isinstance(value, int):
        return write_text(str(value))
    if isinstance(value, dict):
        write_literal(b"{")
        for name, member in (<dict>value).items():
            if not first:
                write_literal(b",")
            first = False
            write_quoted(name)
            write_literal(b":")
            write_value(member)
        return write_literal(b"}")
    if isinstance(value, list):
        write_literal(b"[")
        for member in <list>value:
            if not first:
                write_literal(b",")
            first = False
            write_value(member)
        return write_literal(b"]")
    if isinstance(value, tuple):
        write_literal(b"[")
        for member in <tuple>value:
            if not first:
                write_literal(b",")
            first = False
            write_value(member)
        return write_literal(b"]")
    raise TypeError(f"not a value of a row: {value!r}")


def user_row(
    bint known, location, upn, mail, tuple addresses, tuple groups, bytes since, paths,
    str entries, str problems, sinces, revision, bytes seen, pending, facts,
):
    """The row of a user, as :func:`engine.state.user_row_codecs.encode_user` has it."""
    global used
    cdef str since_when
    if isinstance(sinces, tuple):
        since_when = "[" + ",".join(map(str, sinces)) + "]"
    else:
        since_when = str(sinces)
    used = 0
    write_literal(b"[true," if known else b"[false,")
    write_quoted(location)
    write_literal(b",")
    write_quoted(upn)
    write_literal(b",")
    write_quoted(mail)
    write_literal(b",")
    write_quoted_list(addresses)
    write_literal(b",null,")
    write_quoted_list(groups)
    write_literal(b',"')
    write_hex(since)
    write_literal(b'",')
    write_literal(b"true") if paths is None else write_quoted_list(paths)
    write_literal(b",")
    write_quoted(entries)
    write_literal(b",")
    write_text(problems)
    write_literal(b",")
    write_text(since_when)
    write_literal(b",")
    write_text(str(revision))
    write_literal(b',"')
    write_hex(seen)
    write_literal(b'",')
    write_value(pending)
    if facts:
        write_literal(b",")
        write_value(facts)
    write_literal(b"]")
    return PyBytes_FromStringAndSize(buffer, used)


def change_audit(fields):
    """Writes the fields of a ChangeAuditFields."""
    cdef str tenant, user, before, after, why, now, cause
    cdef bint failed
    tenant, user, before, after, why, failed, now, cause = <tuple>fields
    global used
    used = 0
    write_literal(b'{"time":"')
    write_text(now)
    write_literal(b'","tenant":"')
    write_text(tenant)
    write_literal(b'","activity":"Change user license","category":"UserManagement","target":{"type":"User","id":"')
    write_text(user)
    write_literal(b'"},"initiatedBy":"Seatflow","result":"')
    write_literal(b"failure" if failed else b"success")
    write_literal(b'","resultReason":')
    write_quoted(why)
    write_literal(b',"modifiedProperties":[')
    if before != after:
        write_literal(b'{"name":"AssignedLicense","oldValue":')
        write_text(before)
        write_literal(b',"newValue":')
        write_text(after)
        write_literal(b"}")
    write_literal(b'],"causedBy":')
    write_quoted(cause)
    write_literal(b"}")
    return PyBytes_FromStringAndSize(buffer, used)
