# cython: language_level=3, boundscheck=False, wraparound=False
"""The most common user events read straight from their bytes, without a dict in between.

Of the input contract this knows the plain form alone: one flat JSON object of the members below, each
once, in printable ASCII without escapes, in a record without headers. For anything else, right or
wrong, it says so, and ``streams/contract/decoder.py`` reads it and gives the reasons. What it does accept it
reads as that would (tests/streams/contract/test_scanner.py compares the two).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.string cimport memcmp, memset, strncmp

cdef extern from "Python.h":
    object PyType_GenericAlloc(type kind, Py_ssize_t items)

cdef enum:
    MAX_ID = 128
    MAX_TEXT = 1024

cdef enum:
    # Those that may be null come last.
    TYPE, ID, TENANT, USER, GROUP, TIME, MEMBER_TYPE, UPN, LOCATION, DISPLAY_NAME, MAIL, ADDRESSES
    NICKNAME
    NAMES
    UNKNOWN

cdef enum:
    MISSING, NULL_VALUE, TEXT, EMPTY_LIST

cdef struct Member:
    int state
    const char* at
    Py_ssize_t size

cdef enum:
    PRINTABLE = 1  # and needs no escape
    OF_ID = 2

cdef unsigned char CLASS[256]


cdef void _classify():
    cdef int c
    memset(CLASS, 0, 256)
    for c in range(0x20, 0x7F):
        CLASS[c] = PRINTABLE
    for c in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@-":
        CLASS[c] |= OF_ID
    CLASS[b'"'] = CLASS[b"\\"] = 0


_classify()


cdef const char* SPELLED[NAMES]
SPELLED[:] = [
    b"type", b"id", b"tenant", b"user", b"group", b"time", b"memberType", b"userPrincipalName",
    b"usageLocation", b"displayName", b"mail", b"proxyAddresses",
    b"mailNickname",
]


cdef int name_of(const char* at, Py_ssize_t size) noexcept:
    cdef int name
    for name in range(NAMES):
        if SPELLED[name][0] == at[0] and strncmp(SPELLED[name], at, size) == 0:
            if SPELLED[name][size] == 0:
                return name
    return UNKNOWN


cdef inline const char* past_spaces(const char* p) noexcept:
    while p[0] == b" ":
        p += 1
    return p


cdef inline const char* past_text(const char* p, Member* into) noexcept:
    """From after the opening quote to after the closing one; NULL if it is not plain.

    Bytes objects end with a 0 that is not theirs, so no loop here runs over the end.
    """
    into.at = p
    while CLASS[<unsigned char>p[0]]:
        p += 1
    if p[0] != b'"':
        return NULL
    into.state = TEXT
    into.size = p - into.at
    return p + 1


cdef const char* past_value(const char* p, int name, Member* into) noexcept:
    if name == ADDRESSES and p[0] == b"[":
        p = past_spaces(p + 1)
        if p[0] == b"]":
            into.state = EMPTY_LIST
            return p + 1
        if p[0] != b'"':
            return NULL
        p = past_text(p + 1, into)
        if p == NULL:
            return NULL
        p = past_spaces(p)
        return p + 1 if p[0] == b"]" else NULL
    if name != ADDRESSES and p[0] == b'"':
        return past_text(p + 1, into)
    if name >= UPN and p[0] == b"n" and p[1] == b"u" and p[2] == b"l" and p[3] == b"l":
        into.state = NULL_VALUE
        return p + 4
    return NULL


cdef bint scan(const char* p, const char* end, Member* members) noexcept:
    """Whether it is one object of the plain form, and nothing else."""
    cdef Member name
    cdef int known
    p = past_spaces(p)
    if p[0] != b"{":
        return False
    while True:
        p = past_spaces(p + 1)
        if p[0] != b'"':
            return False
        p = past_text(p + 1, &name)
        if p == NULL:
            return False
        known = name_of(name.at, name.size)
        if known == UNKNOWN or members[known].state != MISSING:
            return False
        p = past_spaces(p)
        if p[0] != b":":
            return False
        p = past_value(past_spaces(p + 1), known, &members[known])
        if p == NULL:
            return False
        p = past_spaces(p)
        if p[0] == b"}":
            return past_spaces(p + 1) == end
        if p[0] != b",":
            return False


cdef inline bint is_id(Member* m) noexcept:
    cdef Py_ssize_t i
    if m.state != TEXT or not 0 < m.size <= MAX_ID:
        return False
    for i in range(m.size):
        if not CLASS[<unsigned char>m.at[i]] & OF_ID:
            return False
    return m.at[0] != b"." or m.size > 2 or (m.size == 2 and m.at[1] != b".")  # . and .. are none


cdef inline bint says(Member* m, const char* text, Py_ssize_t size) noexcept:
    return m.state == TEXT and m.size == size and memcmp(m.at, text, size) == 0


cdef inline str text_of(Member* m):
    return PyUnicode_DecodeASCII(m.at, m.size, NULL)


cdef inline void put(object into, Py_ssize_t at, object item):
    Py_INCREF(item)
    PyTuple_SET_ITEM(into, at, item)


cdef class Scanner:
    """For one thread. ``shared`` and ``known``: the strings that stand for ids that recur, and the
    table of them."""

    cdef dict _known, _locations
    cdef object _shared, _absent
    cdef type _upserted, _deleted, _added, _removed, _delivered
    cdef bytes _key  # of the last user who was read; a user's events often come together
    cdef str _tenant, _user

    def __init__(self, events, dict known, shared, dict locations):
        self._known, self._shared, self._locations = known, shared, locations
        self._absent = events.ABSENT
        self._upserted, self._deleted = events.UserUpserted, events.UserDeleted
        self._added, self._removed = events.MembershipAdded, events.MembershipRemoved
        self._delivered = events.Delivered
        self._key = b""

    def read_all(self, records, list batch, slowly):
        """Adds each record's event to the batch, or calls ``slowly(record)`` in its place."""
        cdef object delivered
        for record in records:
            event = None if record.headers else self._read(record.key, record.value)
            if event is None:
                slowly(record)
            else:
                delivered = PyType_GenericAlloc(self._delivered, 4)
                put(delivered, 0, event)
                put(delivered, 1, record.timestamp)
                put(delivered, 2, record.offset)
                put(delivered, 3, "")
                batch.append(delivered)

    cdef object _read(self, key, value):
        """The event, or None if it is not of the plain form."""
        cdef Member m[NAMES]
        cdef const char* at
        if not PyBytes_CheckExact(key) or not PyBytes_CheckExact(value):
            return None
        memset(m, 0, sizeof(m))
        at = PyBytes_AS_STRING(value)
        if not scan(at, at + PyBytes_GET_SIZE(value), m):
            return None
        if not is_id(&m[ID]) or not self._is_user(key, m):
            return None
        if says(&m[TYPE], b"membership.added", 16):
            return self._membership(self._added, m)
        if says(&m[TYPE], b"user.upserted", 13):
            return self._patch(m)
        if says(&m[TYPE], b"membership.removed", 18):
            return self._membership(self._removed, m)
        if says(&m[TYPE], b"user.deleted", 12):
            event = self._event(self._deleted, 4, m)
            put(event, 3, False)
            return event
        return None

    cdef bint _is_user(self, bytes key, Member* m):
        """Whether the key names the tenant and the user of the event; they are the last ones then."""
        cdef const char* at = PyBytes_AS_STRING(key)
        cdef Member* tenant = &m[TENANT]
        cdef Member* user = &m[USER]
        if not is_id(tenant) or not is_id(user):
            return False
        if PyBytes_GET_SIZE(key) != tenant.size + 1 + user.size or at[tenant.size] != b"/":
            return False
        if memcmp(at, tenant.at, tenant.size) or memcmp(at + tenant.size + 1, user.at, user.size):
            return False
        if key != self._key:
            self._tenant = self._id(tenant, "tenant")
            self._user = text_of(user)
            self._key = key
        return True

    cdef str _id(self, Member* m, str name):
        text = text_of(m)
        found = self._known.get(text)
        return self._shared(text, name) if found is None else found

    cdef object _event(self, type kind, Py_ssize_t items, Member* m):
        cdef object event = PyType_GenericAlloc(kind, items)
        put(event, 0, text_of(&m[ID]))
        put(event, 1, self._tenant)
        put(event, 2, self._user)
        return event

    cdef object _membership(self, type kind, Member* m):
        if not is_id(&m[GROUP]) or says(&m[GROUP], b"direct", 6):
            return None
        if m[MEMBER_TYPE].state != MISSING and not says(&m[MEMBER_TYPE], b"user", 4):
            return None
        event = self._event(kind, 4, m)
        put(event, 3, self._id(&m[GROUP], "group"))
        return event

    cdef object _patch(self, Member* m):
        cdef int name
        for name in (UPN, DISPLAY_NAME, MAIL, ADDRESSES, NICKNAME):
            if m[name].state == TEXT and m[name].size > MAX_TEXT:
                return None
        if m[ADDRESSES].state == TEXT and m[ADDRESSES].size == 0:
            return None
        location = self._member(&m[LOCATION])
        if m[LOCATION].state == TEXT:
            location = self._locations.get(location)
            if location is None:
                return None
        addresses = self._member(&m[ADDRESSES])
        if m[ADDRESSES].state == TEXT:
            addresses = (addresses,)
        event = self._event(self._upserted, 9, m)
        put(event, 3, self._member(&m[UPN]))
        put(event, 4, location)
        put(event, 5, self._member(&m[MAIL]))
        put(event, 6, addresses)
        put(event, 7, self._member(&m[NICKNAME]))
        put(event, 8, self._absent)
        return event

    cdef object _member(self, Member* m):
        if m.state == TEXT:
            return text_of(m)
        if m.state == EMPTY_LIST:
            return ()
        return None if m.state == NULL_VALUE else self._absent
