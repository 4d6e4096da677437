"""What the software holds itself to, and which tests and programs show it."""

from dataclasses import dataclass

STATE, TRAINER, COMMANDS = (
    "tests/engine/test_checkpoint.py", "tests/engine/test_train_step.py", "tests/test_commands.py",
)  # fmt: skip
LOGGER, READING, FOLDERS = (
    "tests/engine/tracking/test_wandb_run.py", "tests/data/test_reading.py", "tests/data/test_folders.py",
)  # fmt: skip
LOADING, DOWNLOAD, OPTIONS = (
    "tests/data/test_samples.py", "tests/data/test_download.py", "tests/options/test_load.py",
)  # fmt: skip
TRANSLATE, EXPORT, HOSTILE, SAFETY = (
    "tests/inference/test_translate.py", "tests/deployment/test_export.py", "tests/reliability/test_fuzz.py",
    "tests/test_safety.py",
)  # fmt: skip
DOCTOR = "tests/data/doctor/test_doctor.py"
WATCHDOG, SOUND, PLANNING = (
    "tests/training/test_monitor.py", "tests/data/test_bad_images.py", "tests/training/test_plan.py",
)  # fmt: skip


@dataclass(frozen=True)
class Guarantee:
    """One row of the table. A `gap` is known not to be covered: it makes the best verdict `part`."""

    name: str
    target: str
    figure: str
    tests: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    gap: str = ""


def tests_of(file: str, *names: str) -> tuple[str, ...]:
    """Return the node ids of tests in one file."""
    return tuple(f"{file}::test_{name}" for name in names)


GUARANTEES = (
    Guarantee(
        "A1", "killed while it saves", "200 kills and every file boundary: 0 bad", tests_of(
            STATE, "a_crash_at_any_moment_of_a_save_leaves_a_checkpoint_that_loads",
            "two_hundred_kills_while_saving_lose_no_checkpoint_that_was_finished",
        ), ("storm",),
    ),
    Guarantee(
        "A2", "a save is whole or not there", "data, name, folder on disk in that order", tests_of(
            STATE, "data_reaches_the_disk_before_the_name", "stale_partial_files_are_swept",
            "the_manifest_names_latest_and_best",
        ),
    ),
    Guarantee(
        "A3", "damage is found", "64 of 64 flipped bits, in one line, the one before is used", tests_of(
            STATE, "every_flipped_bit_and_lost_byte_is_found",
            "a_damaged_checkpoint_is_named_and_the_one_before_is_used",
            "a_file_that_is_no_checkpoint_is_refused_in_a_line_that_names_it",
            "a_file_named_by_its_path_is_checked_by_the_checksums_in_it",
        ), ("checkpoints",),
    ),
    Guarantee(
        "A4", "a full disk", "exit 1, says so, needed and free bytes, old checkpoint intact", tests_of(
            STATE, "a_full_disk_is_said_so_and_the_checkpoint_before_stands",
            "a_failed_write_leaves_the_old_file_and_no_other",
        ) + tests_of(WATCHDOG, "a_full_disk_stops_the_run_or_is_warned_of_as_asked"),
    ),
    Guarantee(
        "A5", "no code from a checkpoint", "8 crafted files: exit 2, nothing ran", (
            *tests_of(STATE, "a_checkpoint_never_runs_code"),
            *tests_of(HOSTILE, "a_hostile_checkpoint_is_refused_in_one_line_and_runs_nothing"),
        ), ("checkpoints",),
    ),
    Guarantee(
        "A6", "bombs", "refused, memory below twice what is expected",
        tests_of(HOSTILE, "bombs_are_refused_in_little_memory"), ("checkpoints",),
    ),
    Guarantee(
        "A7", "weights that do not fit", "one line, three names; the format's version checked", (
            *tests_of(STATE, "weights_that_do_not_fit_are_named"),
            *tests_of(TRAINER, "a_checkpoint_of_other_networks_is_answered_with_their_names"),
            *tests_of(HOSTILE, "a_hostile_checkpoint_is_refused_in_one_line_and_runs_nothing"),
            *tests_of(STATE, "a_checkpoint_of_the_first_format_is_still_read"),
        ),
    ),
    Guarantee(
        "A8", "what is kept", "the newest and the best; a failed removal stops nothing", tests_of(
            STATE, "the_newest_and_the_best_are_kept", "a_file_that_cannot_be_removed_does_not_stop_a_run",
        ),
    ),
    Guarantee(
        "B1", "a resumed run is the run", "every loss and tensor, bit by bit", tests_of(
            TRAINER, "a_run_killed_at_any_step_and_started_again_is_bit_identical",
        ), ("storm",),
    ),
    Guarantee(
        "B2", "the state is complete", "each part of it changed in turn is noticed", tests_of(
            TRAINER, "the_comparison_sees_every_part_of_the_state",
            "a_resumed_run_is_another_when_any_part_of_its_state_is",
        ),
    ),
    Guarantee(
        "B3", "other workers", "0, 1, 2, 4: the same pixels; changed at a resume too", (
            *tests_of(TRAINER, "another_number_of_workers_may_continue"),
            *tests_of(LOADING, "the_workers_do_not_change_a_pixel"),
        ),
    ),
    Guarantee(
        "B4", "signals", "saved, 143 or 130, below 5 s; a second one ends it; no orphans", tests_of(
            TRAINER, "a_signal_saves_and_leaves_with_its_code", "a_second_signal_ends_a_run_at_once",
            "a_signal_at_a_checkpoint_keeps_its_score",
        ),
    ),
    Guarantee(
        "B5", "the same command", "starts, continues, or says it is finished; no silent restart", (
            *tests_of(TRAINER, "the_same_command_on_a_finished_run_says_so"),
            *tests_of(OPTIONS, "a_preset_that_is_not_there_is_answered"),
            *tests_of(STATE, "without_its_manifest_a_run_goes_on_from_what_is_whole_and_loses_nothing"),
            *tests_of(
                "tests/training/test_resume.py",
                "options_are_those_of_the_checkpoint_whatever_options_yaml_says",
                "a_run_counted_in_epochs_is_as_long_as_planned_when_images_are_gone",
            ),
        ),
    ),
    Guarantee(
        "B6", "W&B", "one run id, offline without a network, never stops training", tests_of(
            LOGGER, "an_offline_run_holds_the_history_the_previews_and_the_whole_configuration",
            "a_failing_server_never_stops_training", "a_log_call_that_fails_ends_logging_with_one_note",
            "online_without_a_key_is_offline_and_asks_nothing",
        ), ("storm",), gap="resume=allow, not must",
    ),
    Guarantee(
        "B7", "a run repeated", "equal losses and tensors", tests_of(
            TRAINER, "the_options_file_repeats_the_run_elsewhere",
        ),
    ),
    Guarantee(
        "C1", "a number that is not finite", "exit 3, the loss and step named, checkpoints kept", tests_of(
            TRAINER, "a_loss_that_is_not_finite_ends_the_run_with_code_3_and_keeps_the_checkpoint",
        ) + tests_of(
            WATCHDOG, "a_loss_that_is_not_finite_stops_the_run_and_moves_nobody",
            "a_gradient_that_is_not_finite_stops_the_run", "skip_leaves_the_step_out_and_goes_on",
            "skip_gives_up_after_so_many_in_a_row",
            "rollback_goes_on_from_the_last_checkpoint_with_other_samples",
            "a_run_that_went_back_resumes_bit_identically",
            "a_failed_step_leaves_nothing_in_the_history",
        ),
    ),
    Guarantee(
        "C2", "checked on every step", "also where nothing is logged, without waiting on a GPU", tests_of(
            TRAINER, "a_loss_that_is_not_finite_ends_the_run_with_code_3_and_keeps_the_checkpoint",
            "a_step_reads_nothing_back_from_the_device",
        ) + tests_of(WATCHDOG, "a_loss_that_is_not_finite_stops_the_run_and_moves_nobody"),
        gap="its test on a GPU was not run here",
    ),
    Guarantee(
        "D1", "24 kinds of image files", "right pixels, or one line with the path", tests_of(
            READING, "all_eight_exif_orientations_show_the_same_picture",
            "16_bit_greys_are_scaled_not_clipped",
            "float_greys_are_scaled_by_their_range", "grey_palette_1_bit_and_cmyk_become_rgb",
            "transparency_is_laid_over_white_unless_it_is_asked_for",
            "the_first_frame_of_an_animation_counts",
            "an_icc_profile_is_converted_to_srgb", "extreme_sizes_are_read",
            "a_file_that_is_no_picture_is_refused_in_one_line_that_names_it",
            "the_suffix_does_not_decide_what_a_file_is", "nothing_but_the_one_line_is_said_of_a_bad_tiff",
            "the_size_in_the_header_is_that_of_the_pixels_however_exif_is_damaged",
        ), ("images",),
    ),
    Guarantee(
        "D2", "a policy for bad images", "error, or skip at most 1 %; an all-bad folder exits 2", tests_of(
            LOADING, "a_bad_file_is_named_in_one_line_from_any_worker",
        ) + tests_of(
            SOUND, "one_bad_image_is_an_error_or_left_out_as_asked",
            "a_run_goes_on_with_the_images_it_began_with", "more_than_one_in_a_hundred_is_no_accident",
        ),
    ),
    Guarantee(
        "D3", "image bombs", "292 KB refused in 0.1 s and 200 MB", tests_of(
            READING, "a_bomb_is_refused_at_once_and_in_no_memory",
        ), ("images",),
    ),
    Guarantee(
        "D4", "100,000 files", "listed below 1 s, in the order of their bytes", tests_of(
            FOLDERS, "a_hundred_thousand_files_are_listed_in_a_second",
            "files_come_sorted_by_bytes_from_the_whole_tree_without_hidden_ones",
        ),
    ),
    Guarantee(
        "D5", "links and odd files", "each real folder once; loops end", tests_of(
            FOLDERS, "links_in_a_circle_end_and_odd_files_are_passed_over",
        ) + tests_of(LOADING, "a_link_to_itself_is_passed_over")
        + tests_of(DOCTOR, "the_quick_check_says_how_many_files_were_passed_over_and_why"),
    ),
    Guarantee(
        "D6", "names of files", "any bytes; no two pictures share an output", (
            *tests_of(FOLDERS, "strange_names_are_files_like_others"),
            *tests_of(
                TRANSLATE, "two_pictures_never_share_an_output", "a_large_photo_with_spaces_in_its_name",
                "a_picture_is_never_overwritten_by_its_own_translation",
            ),
            *tests_of(COMMANDS, "strange_names_go_through_evaluation"),
        ),
    ),
    Guarantee(
        "D7", "data that cannot be", "exit 2 with the way out, or as documented", (
            *tests_of(FOLDERS, "what_is_missing_is_said_in_one_line", "options_that_cannot_be_are_refused",
                      "an_empty_folder_name_and_one_folder_for_both_domains_are_refused"),
            *tests_of(COMMANDS, "every_mistake_is_answered_in_one_line_with_exit_code_2"),
            *tests_of(LOADING, "every_image_comes_once_a_pass_and_against_new_partners",
                      "an_image_smaller_than_the_crop_is_found_before_training"),
            *tests_of(SOUND, "one_image_against_many_trains_an_epoch_of_the_many"),
        ),
    ),
    Guarantee(
        "D8", "a reader dies", "exit 1 in 2 s, one line with advice", (
            *tests_of(TRAINER, "a_killed_reader_ends_the_run_with_one_line_and_code_1"),
            *tests_of(LOADING, "a_bad_file_is_named_in_one_line_from_any_worker"),
        ),
    ),
    Guarantee(
        "D9", "downloads", "continued after 10 cuts, checked, nothing partial", tests_of(
            DOWNLOAD, "cut_connections_are_continued_from_where_they_ended",
            "an_interrupted_transfer_is_kept_for_the_next_call",
            "a_wrong_checksum_removes_the_file_and_says_both",
            "every_published_set_has_its_preset_and_bad_words_are_answered",
        ), gap="the publishers give no checksums",
    ),
    Guarantee(
        "D10", "hostile archives", "9 kinds of zip refused, nothing outside; no tar is opened", tests_of(
            DOWNLOAD, "a_hostile_archive_is_refused_and_leaves_nothing",
            "a_damaged_archive_is_refused_removed_and_leaves_nothing", "devices_and_pipes_are_refused",
            "too_many_files_and_too_many_bytes_are_refused",
        ),
    ),
    Guarantee(
        "E1", "wrong options", "exit 2, one line of at most 200 characters, as quick as importing torch", (
            *tests_of(OPTIONS, "a_mistake_is_answered_in_one_short_line"),
            *tests_of(COMMANDS, "every_mistake_is_answered_in_one_line_with_exit_code_2",
                      "the_shell_sees_one_line_code_2_and_no_longer_a_wait_than_for_importing_torch"),
            *tests_of(PLANNING, "a_run_that_does_not_fit_ends_in_one_line"),
        ), ("options",),
    ),
    Guarantee(
        "E2", "wrong presets", "500 mutations: exit 0 or 2; no secret is read", tests_of(
            OPTIONS, "a_broken_preset_is_answered_in_one_line_that_names_it",
            "binary_presets_and_folders_are_answered", "a_mistake_is_answered_in_one_short_line",
        ) + tests_of(LOGGER, "nothing_of_the_environment_reaches_a_run_folder"), ("options",),
    ),
    Guarantee(
        "E3", "one owner of a run folder", "a second run exits 2 in 2 s, naming the process", (
            *tests_of(TRAINER, "a_second_run_in_the_folder_is_refused_while_the_first_lives",
                      "another_configuration_in_the_folder_is_refused_and_nothing_is_changed"),
            *tests_of(STATE, "a_run_folder_has_one_owner"),
            *tests_of(
                COMMANDS, "a_second_run_is_refused_in_the_shell_within_two_seconds_of_importing_torch",
            ),
        ), ("storm",),
    ),
    Guarantee(
        "E4", "folders that cannot be", "exit 2 before any training",
        tests_of(COMMANDS, "every_mistake_is_answered_in_one_line_with_exit_code_2",
                 "a_read_only_place_is_answered_before_any_training"),
    ),
    Guarantee(
        "E5", "names stay in their folder", "no name leaves it", (
            *tests_of(FOLDERS, "options_that_cannot_be_are_refused"),
            *tests_of(TRANSLATE, "outputs_that_cannot_be_are_answered"),
            *tests_of(LOGGER, "names_are_cleaned_for_the_server"),
        ),
    ),
    Guarantee(
        "E6", "out of memory", "exit 1, advice in order, the size asked", tests_of(
            PLANNING, "a_run_out_of_memory_says_what_was_asked_for_and_what_helps",
            "a_run_that_does_not_fit_ends_in_one_line",
        ),
    ),
    Guarantee(
        "E7", "a poor environment", "no network, no home, plain locale, closed output: the same", (
            *tests_of(COMMANDS, "no_network_no_home_and_a_plain_locale_do_not_matter",
                      "list_into_a_closed_pipe_is_quiet", "the_three_commands_work_from_another_folder"),
            *tests_of(TRAINER, "a_closed_output_does_not_stop_a_run"),
        ),
    ),
    Guarantee(
        "E8", "exports", "equal to the original within 1e-5, never over a user's file", tests_of(
            EXPORT, "every_file_is_listed_in_the_parity_table_and_within_its_gate",
            "a_file_of_the_users_own_in_a_bundles_folder_is_never_removed",
            "an_earlier_bundle_is_replaced_whole_and_survives_a_kill_between_two_names",
        ),
    ),
    Guarantee(
        "E9", "unsafe calls", "0 in the sources, each kind found by a test", tests_of(
            SAFETY, "no_source_runs_a_files_code_or_trusts_its_size", "the_walk_sees_the_whole_project",
            "an_unsafe_line_is_found",
        ),
    ),
    Guarantee(
        "W1", "a run that fails slowly", "named once, at the second look; silent on a sound run", tests_of(
            WATCHDOG, "a_run_with_the_failure_is_warned_once_at_the_second_look",
            "a_sound_run_is_not_warned", "a_symptom_that_passes_is_not_worth_a_line",
        ),
    ),
    Guarantee(
        "W2", "a discriminator that is always right", "named after 200 steps; a struggling one is not",
        tests_of(
            WATCHDOG, "a_discriminator_that_is_always_right_is_named_and_a_struggling_one_is_not",
        ),
    ),
)  # fmt: skip
