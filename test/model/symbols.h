/* symbols.h: every function of dassie.h, and that it was called.
 *
 * A call is written CALL(dassie_get)(q, ...), which counts it. At the end each
 * of them must have been called, and the list must be test/symbols.txt. */
#ifndef DASSIE_TEST_MODEL_SYMBOLS_H_
#define DASSIE_TEST_MODEL_SYMBOLS_H_

#define SYMBOLS(XX)                \
    XX(dassie_admin_listen)        \
    XX(dassie_backup)              \
    XX(dassie_change)              \
    XX(dassie_check)               \
    XX(dassie_close)               \
    XX(dassie_configure)           \
    XX(dassie_counts)              \
    XX(dassie_drain)               \
    XX(dassie_enqueue)             \
    XX(dassie_enqueue_many)        \
    XX(dassie_err_name)            \
    XX(dassie_errmsg)              \
    XX(dassie_finish)              \
    XX(dassie_get)                 \
    XX(dassie_init)                \
    XX(dassie_job_attempt)         \
    XX(dassie_job_cancelled)       \
    XX(dassie_job_checkpoint)      \
    XX(dassie_job_checkpoint_data) \
    XX(dassie_job_data)            \
    XX(dassie_job_id)              \
    XX(dassie_job_name)            \
    XX(dassie_job_no_retry)        \
    XX(dassie_job_processor)       \
    XX(dassie_job_progress)        \
    XX(dassie_job_queue)           \
    XX(dassie_job_resume_at)       \
    XX(dassie_job_retry_in)        \
    XX(dassie_job_set_error)       \
    XX(dassie_job_set_result)      \
    XX(dassie_job_snooze)          \
    XX(dassie_job_step)            \
    XX(dassie_job_touch)           \
    XX(dassie_list)                \
    XX(dassie_metrics)             \
    XX(dassie_now)                 \
    XX(dassie_open)                \
    XX(dassie_process)             \
    XX(dassie_processor_stop)      \
    XX(dassie_queues)              \
    XX(dassie_ref)                 \
    XX(dassie_replace_allocator)   \
    XX(dassie_stats)               \
    XX(dassie_strerror)            \
    XX(dassie_subscribe)           \
    XX(dassie_testing_advance)     \
    XX(dassie_unref)               \
    XX(dassie_unsubscribe)         \
    XX(dassie_verify)              \
    XX(dassie_version)             \
    XX(dassie_watch)

enum symbol {
#define XX(name) SYMBOL_##name,
    SYMBOLS(XX)
#undef XX
        SYMBOLS_N
};

#define CALL(name) (atomic_fetch_add(&ledger->calls[SYMBOL_##name], 1), name)

#endif /* DASSIE_TEST_MODEL_SYMBOLS_H_ */
