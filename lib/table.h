/* table.h: what RocksDB's tables hold that it must not be asked for.
 *
 * RocksDB checks the sum of each block before it looks into it, but for the
 * properties of a table, which it takes apart first. A bit there says that the
 * block has an index by hash; such a block never has one, and Debian's build,
 * which has assertions, ends the process.
 *
 * The happy path is: dassie__tables_check(), before RocksDB opens any.
 *
 * Possible failure modes are: that bit (DASSIE_ECORRUPT, with the table). All
 * else RocksDB notices itself, a table that is not there, or has no properties,
 * included: so that is no failure here.
 *
 * On close: nothing is kept. Threads: any. */
#ifndef DASSIE_TABLE_H_
#define DASSIE_TABLE_H_

#include "error.h"

/* Of all tables in RocksDB's directory. */
int dassie__tables_check(const char *dir, struct errmsg *e);

#endif /* DASSIE_TABLE_H_ */
