"""The Lua scripts that RedisStore runs on the server.

Each script takes one key, or two in the same slot, so that a cluster can run it. The comment above it lists its
arguments.
"""

from __future__ import annotations

import hashlib

from ...layout import FORMAT, HEADER_SIZE

# Lua counts bytes from 1: the revision is at 3 to 10, ``extended`` at 35, ``expires`` at 43 (see layout.py).
_EXPIRED = f"string.byte(head) == {FORMAT} and #head >= {HEADER_SIZE} and struct.unpack('>I8', head, 43) <= now"

# A key of another Redis type than string cannot hold a record. It reads as '', and is replaced like damaged bytes.
_BYTES = """
local function bytes(...)
    local found = redis.pcall(...)
    if type(found) ~= 'table' then return found end
    if not string.find(found.err, 'WRONGTYPE', 1, true) then return redis.call(...) end
    return ''
end
"""

#: KEYS: name. ARGV: revision to replace or '', data, time to live in ms, now in ms.
SWAP = f"""{_BYTES}
local head, now = bytes('GETRANGE', KEYS[1], 0, {HEADER_SIZE - 1}), tonumber(ARGV[4])
if (#head == 0 and redis.call('EXISTS', KEYS[1]) == 0) or ({_EXPIRED}) then return 0 end
if ARGV[1] ~= '' and string.sub(head, 3, 10) ~= ARGV[1] then return 0 end
if ARGV[1] == '' and #head >= {HEADER_SIZE} and string.byte(head) == {FORMAT} and string.byte(head, 2) ~= 0 then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

# A script copies its arguments, while a SET keeps the bytes that came over the network. So a large record is first set
# under a name of its own, and this script only moves it.
#: KEYS: name, the name with the new record. ARGV: revision to replace, time to live in ms, now in ms. An error if the
#: new record is not there.
TAKE_PLACE = f"""{_BYTES}
local head, now = bytes('GETRANGE', KEYS[1], 0, {HEADER_SIZE - 1}), tonumber(ARGV[3])
if ({_EXPIRED}) or string.sub(head, 3, 10) ~= ARGV[1] then
    redis.call('DEL', KEYS[2])
    return 0
end
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

#: KEYS: name. ARGV: idle lifetime in ms or '', now in ms. Returns the bytes that were there.
EXTEND = f"""{_BYTES}
local head, now = bytes('GET', KEYS[1]), tonumber(ARGV[2])
if not head or ({_EXPIRED}) then return false end
if string.byte(head) ~= {FORMAT} or #head < {HEADER_SIZE} or string.byte(head, 2) ~= 0 then return head end
local expires = now + (tonumber(ARGV[1]) or struct.unpack('>I8', head, 59))
local last = struct.unpack('>I8', head, 67)
if last > 0 and last < expires then expires = last end
redis.call('SETRANGE', KEYS[1], 34, struct.pack('>I8I8', now, expires))
redis.call('PEXPIRE', KEYS[1], math.max(expires - now, 1))
return head
"""

# If a tombstone is there already, its expiry is written again unchanged, since a WAIT counts only the writes of its own
# connection. One byte more than the longest tombstone is read, so that longer bytes are seen not to be a tombstone. The
# new tombstone gets the mark of the record's owner (see record.owner_mark), which the caller need not have read.
#: KEYS: name. ARGV: tombstone, its time to live in ms, now in ms. Returns the tombstone that was there, if any.
END = f"""{_BYTES}
local head, now = bytes('GETRANGE', KEYS[1], 0, {HEADER_SIZE + 32}), tonumber(ARGV[3])
if (#head == 0 and redis.call('EXISTS', KEYS[1]) == 0) or ({_EXPIRED}) then return false end
local kind = #head >= {HEADER_SIZE} and string.byte(head) == {FORMAT} and string.byte(head, 2) or 0
if kind >= 1 and kind <= 7 then
    local left = redis.call('PTTL', KEYS[1])
    if left > 0 then redis.call('PEXPIRE', KEYS[1], left) end
    return head
end
local tombstone, mark = ARGV[1], string.rep('\\0', 4)
if #head >= {HEADER_SIZE} and string.byte(head) == {FORMAT} and math.floor(string.byte(head, 83) / 2) % 2 == 1 then
    local size = struct.unpack('>I2', head, 84)
    local owner = redis.call('GETRANGE', KEYS[1], {HEADER_SIZE}, {HEADER_SIZE} + size - 1)
    mark = struct.pack('>I4', tonumber(string.sub(redis.sha1hex(owner), 1, 8), 16))
end
tombstone = string.sub(tombstone, 1, 58) .. mark .. string.sub(tombstone, 63)
redis.call('SET', KEYS[1], tombstone, 'PX', ARGV[2])
return false
"""

# The server's clock, unless a test gives the time.
_NOW = """
local now = tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

#: KEYS: an owner's list. ARGV: a test's now in ms or '', handle. Returns the list's length if the handle is new in it,
#: otherwise 0; -1 if the key holds another type.
FILE = f"""{_NOW}
local added = redis.pcall('ZADD', KEYS[1], string.format('%.0f', now), ARGV[2])
if type(added) == 'table' then
    return string.find(added.err, 'WRONGTYPE', 1, true) and -1 or added
end
return added == 1 and redis.call('ZCARD', KEYS[1]) or 0
"""

#: KEYS: an owner's list. ARGV: a test's now in ms or ''. Returns now in ms, then members and scores in turn; nothing if
#: the key holds another type.
LIST = f"""{_NOW}
local filed = redis.pcall('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
if filed.err then return not string.find(filed.err, 'WRONGTYPE', 1, true) and filed end
table.insert(filed, 1, string.format('%.0f', now))
return filed
"""

# An entry that was filed again since it was read stays: its record was written after all.
#: KEYS: an owner's list. ARGV: handles, each followed by the time it was filed. Returns how many were removed.
UNFILE = """
local removed = 0
for i = 1, #ARGV, 2 do
    if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or 0) == tonumber(ARGV[i + 1]) then
        removed = removed + redis.call('ZREM', KEYS[1], ARGV[i])
    end
end
return removed
"""

#: A script's text -> its digest, by which EVALSHA names a script that the server knows.
DIGESTS = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (SWAP, TAKE_PLACE, EXTEND, END, FILE, LIST)
}
