"""List everything that a command waits for, and the tests that measure how long a signal takes."""

from reliability.guarantees import Guarantee, tests_of

WAITS_TEST = "tests/training/test_waits.py"
DISTRIBUTED = "tests/engine/distributed/test_distributed.py"
WANDB_FAILURES = "tests/engine/tracking/test_wandb_failures.py"
SHARED_MEMORY = "tests/data/test_shared_memory.py"
WANDB_ONLINE = "tests/engine/tracking/test_wandb_online.py"

WAITS = (
    Guarantee(
        "S1",
        "Waiting for batches of worker processes: a signal saves the run and ends it",
        "within 5 s, also where the workers are stopped",
        (
            *tests_of(WAITS_TEST, "readers_that_are_stopped_do_not_stop_a_signal"),
            *tests_of(
                "tests/data/test_shared_memory.py",
                "what_a_container_has_is_refused_for_large_batches",
            ),
        ),
    ),
    Guarantee(
        "S2",
        "Waiting for a file in the training process (data.workers=0): a signal saves the run",
        "within 5 s",
        tests_of(WAITS_TEST, "a_drive_that_hangs_does_not_stop_a_signal"),
    ),
    Guarantee(
        "S3",
        "Waiting for images in one of several processes: a signal ends all of them",
        "within 10 s; the last checkpoint is intact",
        (
            *tests_of(WAITS_TEST, "one_of_several_processes_waits_a_little_longer"),
            *tests_of(DISTRIBUTED, "a_signal_ends_all_processes_where_one_gets_no_images"),
        ),
    ),
    Guarantee(
        "S4",
        "Waiting for the other processes (all-reduce, broadcast, start)",
        "runtime.timeout, then exit code 1",
        tests_of(
            DISTRIBUTED,
            "all_processes_end_after_the_timeout_where_one_hangs",
            "after_a_killed_process_torchrun_continues_from_the_checkpoint_bit_by_bit",
        ),
    ),
    Guarantee(
        "S5",
        "Waiting in a library (a device, a compiler): Ctrl-C, in training a second signal, ends it",
        "within 5 s",
        tests_of(WAITS_TEST, "a_wait_in_a_library_ends"),
    ),
    Guarantee(
        "S6",
        "Waiting for threads that read, hash or check files: Ctrl-C ends the command",
        "within 5 s",
        tests_of(WAITS_TEST, "threads_that_read_a_hanging_drive_do_not_stop_ctrl_c"),
    ),
    Guarantee(
        "S7",
        "Waiting for another process that writes data.disk_cache: Ctrl-C ends the command",
        "within 5 s; a run folder in use is refused at once (E3)",
        tests_of(WAITS_TEST, "a_lock_of_another_process_does_not_stop_ctrl_c"),
    ),
    Guarantee(
        "S8",
        "Waiting for the measurement of plan=true and budget=: Ctrl-C ends the command",
        "within 5 s",
        tests_of(WAITS_TEST, "a_plan_whose_subprocess_is_stopped_answers_ctrl_c"),
    ),
    Guarantee(
        "S9",
        "Waiting for a download: Ctrl-C ends the command",
        "within 5 s; a server that sends nothing is left after 30 s",
        tests_of(WAITS_TEST, "a_server_that_does_not_answer_does_not_stop_ctrl_c"),
    ),
    Guarantee(
        "S10",
        "Waiting for W&B: a server or process of it that does not answer delays no step",
        "30 s at the start, 60 s at the end, 4 s after a signal",
        (
            *tests_of(
                WAITS_TEST,
                "a_server_that_stalls_at_the_end_does_not_delay_a_stopped_run",
                "a_wandb_process_that_does_not_answer_delays_no_step",
            ),
            *tests_of(WANDB_FAILURES, "a_run_whose_server_fails_is_logged_offline"),
            *tests_of(WANDB_ONLINE, "an_artifact_is_not_waited_for_longer_than_the_timeout"),
        ),
    ),
)
