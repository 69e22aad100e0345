"""Which files are videos, by their names."""

VIDEO_SUFFIXES = frozenset(
    (
        ".3g2 .3gp .3gp2 .3gpp .amv .asf .avi .bik .divx .dv .dvr-ms .f4v .flc .fli .flv .gif .gxf .insv .ismv .ivf "
        ".lrv .m1v .m2p .m2t .m2ts .m2v .m4v .mj2 .mjpeg .mjpg .mk3d .mkv .mov .mp2v .mp4 .mp4v .mpe .mpeg .mpg "
        ".mpv .mts .mxf .nsv .nut .nuv .ogg .ogm .ogv .ogx .qt .rm .rmvb .roq .swf .tod .trp .ts .vob .vro .webm .wmv "
        ".wtv .xvid .y4m "
        # Streams without a container.
        ".264 .265 .266 .av1 .avc .cavs .h261 .h263 .h264 .h265 .h266 .hevc .obu .vc1 .vvc"
    ).split()
)
"""Of files that are taken for videos: those that FFmpeg's demuxers for videos name, and what cameras write."""
