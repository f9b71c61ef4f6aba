#include "config.h"

#include "key.h"

#include <string.h>

const char *const dassie__family_names[FAMILIES] = {
    "default",  "commits", "jobs",      "pending", "scheduled", "running",
    "complete", "failed",  "cancelled", "history", "unique"};

void dassie__key_number(uint8_t key[KEY_NUMBER_BYTES], uint64_t number)
{
    put_be64(key, number);
}

int dassie__key_parse_number(const uint8_t *key, size_t len, uint64_t *number)
{
    if (len != KEY_NUMBER_BYTES) {
        return -1;
    }
    *number = get_be64(key);
    return 0;
}

void dassie__key_pending(uint8_t key[KEY_PENDING_BYTES],
                         const struct place *place)
{
    put_be32(key, place->queue);
    key[4] = (uint8_t)((uint8_t)place->priority ^ 0x80);
    key[5] = place->kind;
    put_be64(key + 6, place->position);
}

int dassie__key_parse_pending(const uint8_t *key, size_t len,
                              struct place *place)
{
    if (len != KEY_PENDING_BYTES || key[5] >= LINE_KINDS) {
        return -1;
    }
    place->queue = get_be32(key);
    place->priority = (int8_t)(key[4] ^ 0x80);
    place->kind = key[5];
    place->position = get_be64(key + 6);
    return 0;
}

void dassie__key_due(uint8_t key[KEY_DUE_BYTES], const struct due *due)
{
    put_be64(key, due->ms);
    put_be64(key + 8, due->id);
    key[16] = due->kind;
}

int dassie__key_parse_due(const uint8_t *key, size_t len, struct due *due)
{
    if (len != KEY_DUE_BYTES || key[16] >= DUE_KINDS) {
        return -1;
    }
    due->ms = get_be64(key);
    due->id = get_be64(key + 8);
    due->kind = key[16];
    return 0;
}

void dassie__key_save(uint8_t key[KEY_SAVE_BYTES], uint64_t id)
{
    key[0] = KEY_SAVE_TAG;
    put_be64(key + 1, id);
}

int dassie__key_parse_save(const uint8_t *key, size_t len, uint64_t *id)
{
    if (len != KEY_SAVE_BYTES || key[0] != KEY_SAVE_TAG) {
        return -1;
    }
    *id = get_be64(key + 1);
    return 0;
}

size_t dassie__key_unique(uint8_t key[KEY_UNIQUE_MAX], uint32_t queue,
                          const uint8_t *unique, size_t len)
{
    put_be32(key, queue);
    memcpy(key + 4, unique, len);
    return 4 + len;
}

int dassie__key_parse_unique(const uint8_t *key, size_t len, uint32_t *queue)
{
    if (len <= 4 || len > KEY_UNIQUE_MAX) {
        return -1;
    }
    *queue = get_be32(key);
    return 0;
}

void dassie__key_queue(uint8_t key[KEY_QUEUE_BYTES], char tag, uint32_t queue)
{
    key[0] = (uint8_t)tag;
    put_be32(key + 1, queue);
}

int dassie__key_parse_queue(const uint8_t *key, size_t len, char *tag,
                            uint32_t *queue)
{
    if (len != KEY_QUEUE_BYTES ||
        (key[0] != KEY_NAME_TAG && key[0] != KEY_COUNTS_TAG &&
         key[0] != KEY_SETTINGS_TAG)) {
        return -1;
    }
    *tag = (char)key[0];
    *queue = get_be32(key + 1);
    return 0;
}
