"""Titles and number formats of the metrics in tables."""

# Name of a metric in metrics.json -> (title, format), in the order of the columns.
COLUMNS = {
    "images": ("images", "{:d}"), "truth_psnr": ("PSNR to truth", "{:.2f} dB"),
    "truth_ssim": ("SSIM", "{:.3f}"), "truth_ms_ssim": ("MS-SSIM", "{:.3f}"),
    "truth_ciede2000": ("CIEDE2000", "{:.2f}"), "truth_lpips": ("LPIPS", "{:.3f}"),
    "truth_mae": ("MAE", "{:.4g}"),
    "copy_psnr": ("(input copied)", "{:.2f} dB"),
    "cycle_psnr": ("cycle PSNR", "{:.2f} dB"), "cycle_l1": ("cycle L1", "{:.4f}"),
    "fid": ("FID", "{:.1f}"), "kid": ("KID", "{:.4f}"), "swd": ("SWD", "{:.1f}"),
    "own_source": ("own source", "{:.2f}"),
    "structure": ("structure", "{:.3f}"), "diversity": ("diversity", "{:.3f}"),
    "style_followed": ("style followed", "{:.0%}"), "steganography": ("hidden", "{:.1f} dB"),
}  # fmt: skip
