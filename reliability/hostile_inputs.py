"""List what is promised about files, folders, names and servers of strangers, and what shows it."""

from reliability.guarantees import Guarantee, tests_of

FILES = "tests/common/test_files.py"
CONTENT = "tests/engine/test_checkpoint_content.py"
HOSTILE = "tests/reliability/test_hostile.py"
LIMITS = "at most 30 s and 1 GB, one line, no traceback"

HOSTILE_INPUTS = (
    Guarantee(
        "F1",
        "A checkpoint or bundle with wrong content and fitting checksums is refused or harmless",
        f"300 changes of the content through every command: {LIMITS}",
        (
            *tests_of(
                CONTENT,
                "a_tensor_without_data_is_refused_by_every_command",
                "parts_of_another_type_are_refused",
                "a_format_of_another_type_is_refused",
            ),
            *tests_of(HOSTILE, "content_that_is_not_checked_is_noticed"),
        ),
        ("hostile_checkpoints",),
    ),
    Guarantee(
        "F2",
        "Links, pipes and folders in a run or an output folder change nothing outside",
        f"6 kinds at each of about 120 paths: no file of the user changes; {LIMITS}",
        (
            *tests_of(
                FILES,
                "a_lock_that_is_a_link_or_a_pipe_is_refused_and_nothing_is_truncated",
                "a_folder_in_a_run_that_is_a_link_is_refused",
                "a_file_of_a_run_that_is_a_link_a_pipe_or_a_folder_is_refused",
                "a_leftover_is_deleted_whatever_it_is",
            ),
            *tests_of(HOSTILE, "a_command_that_follows_links_is_noticed"),
        ),
        ("hostile_places",),
    ),
    Guarantee(
        "F3",
        "A name of a file never becomes a command, markup or an instruction to the terminal",
        "39 names through seven commands; every HTML, JSON and CSV file parses",
        tests_of(HOSTILE, "a_name_that_reaches_the_terminal_is_noticed"),
        ("hostile_names",),
    ),
    Guarantee(
        "F4",
        "A server that answers wrongly fills no disk, keeps no command waiting and blocks no retry",
        "39 wrong answers; the same command then succeeds",
        tests_of(
            HOSTILE,
            "a_download_of_each_kind_is_refused_and_then_succeeds",
            "a_download_that_leaves_its_folder_is_noticed",
        ),
        ("hostile_downloads",),
    ),
    Guarantee(
        "F5",
        "A write, close, rename or synchronization that fails loses nothing",
        "100 points of four commands; the same command then succeeds, with the same weights",
        tests_of("tests/reliability/test_write_faults.py", "failing_writes_lose_nothing"),
        ("write_faults",),
    ),
    Guarantee(
        "F6",
        "A folder of unreadable files is refused before they are hashed",
        "after eight headers of a domain",
        tests_of(
            "tests/data/test_bad_images.py",
            "a_folder_without_a_readable_image_is_refused_before_its_files_are_hashed",
        ),
    ),
)
