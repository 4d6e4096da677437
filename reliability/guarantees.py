"""List the guarantees of the software, and the tests and programs that check each of them."""

from dataclasses import dataclass

CHECKPOINT = "tests/engine/test_checkpoint.py"
TRAIN_STEP = "tests/engine/test_train_step.py"
COMMANDS = "tests/test_commands.py"
WANDB_RUN = "tests/engine/tracking/test_wandb_run.py"
READING = "tests/data/test_reading.py"
FOLDERS = "tests/data/test_folders.py"
SAMPLES = "tests/data/test_samples.py"
DOWNLOAD = "tests/data/test_download.py"
DOCTOR = "tests/data/doctor/test_doctor.py"
BAD_IMAGES = "tests/data/test_bad_images.py"
OPTIONS = "tests/options/test_load.py"
TRANSLATE = "tests/inference/test_translate.py"
EXPORT = "tests/deployment/test_export.py"
MONITOR = "tests/training/test_failure_monitor.py"
PLAN = "tests/training/test_cost_estimate.py"
RESUME = "tests/training/test_resume.py"
HOSTILE = "tests/reliability/test_fuzz.py"
SAFETY = "tests/test_safety.py"


@dataclass(frozen=True)
class Guarantee:
    """One row of the table; a `gap` is a part known to be missing, so the verdict is `part`."""

    name: str
    promise: str
    target: str  # when the promise counts as met
    tests: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    gap: str = ""


def tests_of(file: str, *names: str) -> tuple[str, ...]:
    """Return the node ids of tests in one file."""
    return tuple(f"{file}::test_{name}" for name in names)


GUARANTEES = (
    Guarantee(
        "A1",
        "A process killed while it saves loses no finished checkpoint",
        "0 lost in 200 kills and in crashes at every file operation",
        tests_of(
            CHECKPOINT,
            "a_crash_at_any_moment_of_a_save_leaves_a_checkpoint_that_loads",
            "two_hundred_kills_while_saving_lose_no_checkpoint_that_was_finished",
        ),
        ("kill_and_resume",),
    ),
    Guarantee(
        "A2",
        "A checkpoint is saved completely or not at all",
        "the disk receives first the data, then the name, then the folder",
        tests_of(
            CHECKPOINT,
            "data_reaches_the_disk_before_the_name",
            "stale_partial_files_are_swept",
            "the_manifest_names_latest_and_best",
        ),
    ),
    Guarantee(
        "A3",
        "A damaged checkpoint is detected and the previous one is used",
        "64 of 64 flipped bits are reported in one line",
        tests_of(
            CHECKPOINT,
            "every_flipped_bit_and_lost_byte_is_found",
            "a_damaged_checkpoint_is_named_and_the_one_before_is_used",
            "a_file_that_is_no_checkpoint_is_refused_in_a_line_that_names_it",
            "a_file_named_by_its_path_is_checked_by_the_checksums_in_it",
        ),
        ("checkpoints",),
    ),
    Guarantee(
        "A4",
        "A full disk damages no existing checkpoint",
        "exit code 1; the message gives the needed and the free bytes",
        tests_of(
            CHECKPOINT,
            "a_full_disk_is_said_so_and_the_checkpoint_before_stands",
            "a_failed_write_leaves_the_old_file_and_no_other",
        )
        + tests_of(MONITOR, "a_full_disk_stops_the_run_or_is_warned_of_as_asked"),
        ("write_faults",),
    ),
    Guarantee(
        "A5",
        "Loading a checkpoint never runs code from it",
        "crafted files of every kind that the tests know: exit code 2 and no code runs",
        (
            *tests_of(CHECKPOINT, "a_checkpoint_never_runs_code"),
            *tests_of(HOSTILE, "a_hostile_checkpoint_is_refused_in_one_line_and_runs_nothing"),
        ),
        ("checkpoints",),
    ),
    Guarantee(
        "A6",
        "A decompression bomb in a checkpoint is refused",
        "memory stays below twice the expected size",
        tests_of(HOSTILE, "bombs_are_refused_in_little_memory"),
        ("checkpoints",),
    ),
    Guarantee(
        "A7",
        "Weights that do not fit the networks are refused",
        "one line with three names; the format version is checked too",
        (
            *tests_of(CHECKPOINT, "weights_that_do_not_fit_are_named"),
            *tests_of(TRAIN_STEP, "a_checkpoint_of_other_networks_is_answered_with_their_names"),
            *tests_of(HOSTILE, "a_hostile_checkpoint_is_refused_in_one_line_and_runs_nothing"),
            *tests_of(CHECKPOINT, "a_checkpoint_of_the_first_format_is_still_read"),
        ),
    ),
    Guarantee(
        "A8",
        "The newest and the best checkpoint stay on disk",
        "a file that cannot be deleted does not stop training",
        tests_of(
            CHECKPOINT,
            "the_newest_and_the_best_are_kept",
            "a_file_that_cannot_be_removed_does_not_stop_a_run",
        ),
    ),
    Guarantee(
        "B1",
        "A resumed run is identical to an uninterrupted one",
        "every loss and tensor, bit by bit",
        tests_of(
            TRAIN_STEP,
            "a_run_killed_at_any_step_and_started_again_is_bit_identical",
        ),
        ("kill_and_resume",),
    ),
    Guarantee(
        "B2",
        "A checkpoint contains the complete training state",
        "a change to any part of it is detected",
        tests_of(
            TRAIN_STEP,
            "the_comparison_sees_every_part_of_the_state",
            "a_resumed_run_is_another_when_any_part_of_its_state_is",
        ),
    ),
    Guarantee(
        "B3",
        "The number of data workers does not change the images",
        "equal pixels with 0, 1, 2 and 4 workers, and after a change at resume",
        (
            *tests_of(TRAIN_STEP, "another_number_of_workers_may_continue"),
            *tests_of(SAMPLES, "the_workers_do_not_change_a_pixel"),
        ),
    ),
    Guarantee(
        "B4",
        "A signal saves the run and stops it",
        "exit code 143 or 130 within 5 s; a second signal stops at once; no orphans",
        tests_of(
            TRAIN_STEP,
            "a_signal_saves_and_leaves_with_its_code",
            "a_second_signal_ends_a_run_at_once",
            "a_signal_at_a_checkpoint_keeps_its_score",
        ),
    ),
    Guarantee(
        "B5",
        "The same command starts, resumes or reports a finished run",
        "it never silently starts again",
        (
            *tests_of(TRAIN_STEP, "the_same_command_on_a_finished_run_says_so"),
            *tests_of(OPTIONS, "a_preset_that_is_not_there_is_answered"),
            *tests_of(
                CHECKPOINT,
                "without_its_manifest_a_run_goes_on_from_what_is_whole_and_loses_nothing",
            ),
            *tests_of(
                RESUME,
                "options_are_those_of_the_checkpoint_whatever_options_yaml_says",
                "a_run_counted_in_epochs_is_as_long_as_planned_when_images_are_gone",
            ),
        ),
    ),
    Guarantee(
        "B6",
        "W&B never stops training",
        "one run id for all parts of a run; offline without a network",
        tests_of(
            WANDB_RUN,
            "an_offline_run_holds_the_history_the_previews_and_the_whole_configuration",
            "a_failing_server_never_stops_training",
            "a_log_call_that_fails_ends_logging_with_one_note",
            "online_without_a_key_is_offline_and_asks_nothing",
        ),
        ("kill_and_resume",),
        gap="resume=allow instead of resume=must",
    ),
    Guarantee(
        "B7",
        "The saved options reproduce a run",
        "equal losses and tensors",
        tests_of(
            TRAIN_STEP,
            "the_options_file_repeats_the_run_elsewhere",
        ),
    ),
    Guarantee(
        "C1",
        "A NaN or infinite loss or gradient is never applied",
        "exit code 3; the message names the loss and step; checkpoints stay intact",
        tests_of(
            TRAIN_STEP,
            "a_loss_that_is_not_finite_ends_the_run_with_code_3_and_keeps_the_checkpoint",
        )
        + tests_of(
            MONITOR,
            "a_loss_that_is_not_finite_stops_the_run_and_moves_nobody",
            "a_gradient_that_is_not_finite_stops_the_run",
            "skip_leaves_the_step_out_and_goes_on",
            "skip_gives_up_after_so_many_in_a_row",
            "rollback_goes_on_from_the_last_checkpoint_with_other_samples",
            "a_run_that_went_back_resumes_bit_identically",
            "a_failed_step_leaves_nothing_in_the_history",
        ),
    ),
    Guarantee(
        "C2",
        "Every step is checked for NaN and infinity",
        "also between log lines, and without waiting for the GPU",
        tests_of(
            TRAIN_STEP,
            "a_loss_that_is_not_finite_ends_the_run_with_code_3_and_keeps_the_checkpoint",
            "a_step_reads_nothing_back_from_the_device",
        )
        + tests_of(MONITOR, "a_loss_that_is_not_finite_stops_the_run_and_moves_nobody"),
        gap="its test on a GPU was not run here",
    ),
    Guarantee(
        "D1",
        "24 kinds of image files are read correctly",
        "the right pixels, or one line with the path",
        tests_of(
            READING,
            "all_eight_exif_orientations_show_the_same_picture",
            "16_bit_greys_are_scaled_not_clipped",
            "float_greys_are_scaled_by_their_range",
            "grey_palette_1_bit_and_cmyk_become_rgb",
            "transparency_is_laid_over_white_unless_it_is_asked_for",
            "the_first_frame_of_an_animation_counts",
            "an_icc_profile_is_converted_to_srgb",
            "extreme_sizes_are_read",
            "a_file_that_is_no_picture_is_refused_in_one_line_that_names_it",
            "the_suffix_does_not_decide_what_a_file_is",
            "nothing_but_the_one_line_is_said_of_a_bad_tiff",
            "the_size_in_the_header_is_that_of_the_pixels_however_exif_is_damaged",
        ),
        ("images",),
    ),
    Guarantee(
        "D2",
        "Unreadable images stop the run or are skipped, as configured",
        "at most 1 % is skipped; exit code 2 if no image is readable",
        tests_of(
            SAMPLES,
            "a_bad_file_is_named_in_one_line_from_any_worker",
        )
        + tests_of(
            BAD_IMAGES,
            "one_bad_image_is_an_error_or_left_out_as_asked",
            "a_run_goes_on_with_the_images_it_began_with",
            "more_than_one_in_a_hundred_is_no_accident",
        ),
    ),
    Guarantee(
        "D3",
        "A decompression bomb among the images is refused",
        "a file of 292 KB: within 0.1 s and 200 MB",
        tests_of(
            READING,
            "a_bomb_is_refused_at_once_and_in_no_memory",
        ),
        ("images",),
    ),
    Guarantee(
        "D4",
        "A folder of 100,000 files is listed quickly",
        "less than 1 s, sorted by the bytes of the names",
        tests_of(
            FOLDERS,
            "a_hundred_thousand_files_are_listed_in_a_second",
            "files_come_sorted_by_bytes_from_the_whole_tree_without_hidden_ones",
        ),
    ),
    Guarantee(
        "D5",
        "Links and special files do no harm",
        "every real folder is read once; circular links end",
        tests_of(
            FOLDERS,
            "links_in_a_circle_end_and_odd_files_are_passed_over",
        )
        + tests_of(SAMPLES, "a_link_to_itself_is_passed_over")
        + tests_of(DOCTOR, "the_quick_check_says_how_many_files_were_passed_over_and_why"),
    ),
    Guarantee(
        "D6",
        "Image files can have any name",
        "any bytes; no two images share an output",
        (
            *tests_of(FOLDERS, "strange_names_are_files_like_others"),
            *tests_of(
                TRANSLATE,
                "two_pictures_never_share_an_output",
                "a_large_photo_with_spaces_in_its_name",
                "a_picture_is_never_overwritten_by_its_own_translation",
            ),
            *tests_of(COMMANDS, "strange_names_go_through_evaluation"),
        ),
    ),
    Guarantee(
        "D7",
        "Missing or impossible data is reported",
        "exit code 2 with advice, or the documented behaviour",
        (
            *tests_of(
                FOLDERS,
                "what_is_missing_is_said_in_one_line",
                "options_that_cannot_be_are_refused",
                "an_empty_folder_name_and_one_folder_for_both_domains_are_refused",
            ),
            *tests_of(COMMANDS, "every_mistake_is_answered_in_one_line_with_exit_code_2"),
            *tests_of(
                SAMPLES,
                "every_image_comes_once_a_pass_and_against_new_partners",
                "an_image_smaller_than_the_crop_is_found_before_training",
            ),
            *tests_of(BAD_IMAGES, "one_image_against_many_trains_an_epoch_of_the_many"),
        ),
    ),
    Guarantee(
        "D8",
        "A killed data worker ends the run",
        "exit code 1 within 2 s; one line with advice",
        (
            *tests_of(TRAIN_STEP, "a_killed_reader_ends_the_run_with_one_line_and_code_1"),
            *tests_of(SAMPLES, "a_bad_file_is_named_in_one_line_from_any_worker"),
        ),
    ),
    Guarantee(
        "D9",
        "Interrupted downloads are continued and checked",
        "continued after 10 interruptions; no partial data set remains",
        tests_of(
            DOWNLOAD,
            "cut_connections_are_continued_from_where_they_ended",
            "an_interrupted_transfer_is_kept_for_the_next_call",
            "a_wrong_checksum_removes_the_file_and_says_both",
            "every_published_set_has_its_preset_and_bad_words_are_answered",
        ),
        gap="the publishers provide no checksums",
    ),
    Guarantee(
        "D10",
        "Hostile archives are refused",
        "9 kinds of zip files; nothing is written outside the folder; tar files are never opened",
        tests_of(
            DOWNLOAD,
            "a_hostile_archive_is_refused_and_leaves_nothing",
            "a_damaged_archive_is_refused_removed_and_leaves_nothing",
            "devices_and_pipes_are_refused",
            "too_many_files_and_too_many_bytes_are_refused",
        ),
    ),
    Guarantee(
        "E1",
        "Wrong options are refused",
        "exit code 2 and one line of at most 200 characters, as fast as importing torch",
        (
            *tests_of(OPTIONS, "a_mistake_is_answered_in_one_short_line"),
            *tests_of(
                COMMANDS,
                "every_mistake_is_answered_in_one_line_with_exit_code_2",
                "the_shell_sees_one_line_code_2_and_no_longer_a_wait_than_for_importing_torch",
            ),
            *tests_of(PLAN, "a_run_that_does_not_fit_ends_in_one_line"),
        ),
        ("options",),
    ),
    Guarantee(
        "E2",
        "Wrong presets are refused",
        "500 mutated files: exit code 0 or 2; no secret is read",
        tests_of(
            OPTIONS,
            "a_broken_preset_is_answered_in_one_line_that_names_it",
            "binary_presets_and_folders_are_answered",
            "a_mistake_is_answered_in_one_short_line",
        )
        + tests_of(WANDB_RUN, "nothing_of_the_environment_reaches_a_run_folder"),
        ("options",),
    ),
    Guarantee(
        "E3",
        "Only one process trains in a run folder",
        "a second one ends within 2 s with exit code 2 and names the first",
        (
            *tests_of(
                TRAIN_STEP,
                "a_second_run_in_the_folder_is_refused_while_the_first_lives",
                "another_configuration_in_the_folder_is_refused_and_nothing_is_changed",
            ),
            *tests_of(CHECKPOINT, "a_run_folder_has_one_owner"),
            *tests_of(
                COMMANDS,
                "a_second_run_is_refused_in_the_shell_within_two_seconds_of_importing_torch",
            ),
        ),
        ("kill_and_resume",),
    ),
    Guarantee(
        "E4",
        "Unusable folders are reported",
        "exit code 2 before any training",
        tests_of(
            COMMANDS,
            "every_mistake_is_answered_in_one_line_with_exit_code_2",
            "a_read_only_place_is_answered_before_any_training",
        ),
    ),
    Guarantee(
        "E5",
        "Names that a user enters stay in their folder",
        "no name leads outside",
        (
            *tests_of(FOLDERS, "options_that_cannot_be_are_refused"),
            *tests_of(TRANSLATE, "outputs_that_cannot_be_are_answered"),
            *tests_of(WANDB_RUN, "names_are_cleaned_for_the_server"),
        ),
    ),
    Guarantee(
        "E6",
        "Running out of memory gives advice",
        "exit code 1; ordered advice and the requested size",
        tests_of(
            PLAN,
            "a_run_out_of_memory_says_what_was_asked_for_and_what_helps",
            "a_run_that_does_not_fit_ends_in_one_line",
        ),
    ),
    Guarantee(
        "E7",
        "A restricted environment makes no difference",
        "the same without a network or home folder, with a plain locale or closed output",
        (
            *tests_of(
                COMMANDS,
                "no_network_no_home_and_a_plain_locale_do_not_matter",
                "list_into_a_closed_pipe_is_quiet",
                "the_three_commands_work_from_another_folder",
            ),
            *tests_of(TRAIN_STEP, "a_closed_output_does_not_stop_a_run"),
        ),
    ),
    Guarantee(
        "E8",
        "Exported files match the original model",
        "equal within 1e-5; no file of the user is overwritten",
        tests_of(
            EXPORT,
            "every_file_is_listed_in_the_parity_table_and_within_its_gate",
            "a_file_of_the_users_own_in_a_bundles_folder_is_never_removed",
            "an_earlier_bundle_is_replaced_whole_and_survives_a_kill_between_two_names",
        ),
    ),
    Guarantee(
        "E9",
        "The sources contain no unsafe calls",
        "0 found; a test proves that each kind would be found",
        tests_of(
            SAFETY,
            "no_source_runs_a_files_code_or_trusts_its_size",
            "the_walk_sees_the_whole_project",
            "an_unsafe_line_is_found",
        ),
    ),
    Guarantee(
        "W1",
        "A slowly failing run is reported",
        "one warning, at the second check; none for a healthy run",
        tests_of(
            MONITOR,
            "a_run_with_the_failure_is_warned_once_at_the_second_look",
            "a_sound_run_is_not_warned",
            "a_symptom_that_passes_is_not_worth_a_line",
        ),
    ),
    Guarantee(
        "W2",
        "A discriminator that is always right is reported",
        "after 200 steps; a struggling one is not reported",
        tests_of(
            MONITOR,
            "a_discriminator_that_is_always_right_is_named_and_a_struggling_one_is_not",
        ),
    ),
)
