"""The media type of a file, by its name.

A table of our own: the one of `mimetypes` differs from one version of Python, and from one machine, to
the next. What is not in it is `application/octet-stream`, which browsers download and never run.
"""

from typing import Final

UNKNOWN: Final = b"application/octet-stream"

# Text is taken for UTF-8, as by everybody since (RFC 9110 dropped ISO 8859-1; HTML's meta does not win over this).
_TEXT: Final = {
    b"text/calendar": "ics",
    b"text/css": "css",
    b"text/csv": "csv",
    b"text/html": "htm html",
    b"text/javascript": "js mjs",  # RFC 9239
    b"text/markdown": "markdown md",
    b"text/plain": "conf ini log py text toml txt",
    b"text/vcard": "vcf",
    b"text/vtt": "vtt",
    b"text/x-component": "htc",
    b"application/yaml": "yaml yml",  # RFC 9512
}
_OTHER: Final = {
    b"application/atom+xml": "atom",
    b"application/epub+zip": "epub",
    b"application/geo+json": "geojson",
    b"application/gzip": "gz tgz",
    b"application/java-archive": "jar",
    b"application/json": "json map",  # UTF-8 by definition (RFC 8259, 8.1)
    b"application/ld+json": "jsonld",
    b"application/manifest+json": "webmanifest",
    b"application/msword": "doc",
    b"application/pdf": "pdf",
    b"application/pgp-signature": "asc sig",
    b"application/postscript": "ai eps ps",
    b"application/rss+xml": "rss",
    b"application/rtf": "rtf",
    b"application/sql": "sql",
    b"application/vnd.ms-excel": "xls",
    b"application/vnd.ms-fontobject": "eot",
    b"application/vnd.ms-powerpoint": "ppt",
    b"application/vnd.oasis.opendocument.presentation": "odp",
    b"application/vnd.oasis.opendocument.spreadsheet": "ods",
    b"application/vnd.oasis.opendocument.text": "odt",
    b"application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    b"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    b"application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    b"application/wasm": "wasm",
    b"application/x-7z-compressed": "7z",
    b"application/x-bzip2": "bz2",
    b"application/x-tar": "tar",
    b"application/x-xz": "xz",
    b"application/xhtml+xml": "xhtml",
    b"application/xml": "xml xsd xsl",  # says its encoding itself
    b"application/zip": "zip",
    b"application/zstd": "zst",
    b"audio/aac": "aac",
    b"audio/flac": "flac",
    b"audio/midi": "mid midi",
    b"audio/mp4": "m4a",
    b"audio/mpeg": "mp3",
    b"audio/ogg": "oga ogg opus",
    b"audio/wav": "wav",
    b"font/collection": "ttc",
    b"font/otf": "otf",
    b"font/ttf": "ttf",
    b"font/woff": "woff",
    b"font/woff2": "woff2",
    b"image/apng": "apng",
    b"image/avif": "avif",
    b"image/bmp": "bmp",
    b"image/gif": "gif",
    b"image/heic": "heic",
    b"image/jpeg": "jpeg jpg",
    b"image/jxl": "jxl",
    b"image/png": "png",
    b"image/svg+xml": "svg",
    b"image/tiff": "tif tiff",
    b"image/vnd.microsoft.icon": "ico",
    b"image/webp": "webp",
    b"model/gltf+json": "gltf",
    b"model/gltf-binary": "glb",
    b"video/mp2t": "ts",
    b"video/mp4": "m4v mp4",
    b"video/mpeg": "mpeg mpg",
    b"video/ogg": "ogv",
    b"video/quicktime": "mov",
    b"video/webm": "webm",
    b"video/x-msvideo": "avi",
    b"application/vnd.apple.mpegurl": "m3u8",  # RFC 8216
    b"application/dash+xml": "mpd",
}

_BY_EXTENSION: Final = {
    extension.encode(): media_type + (b"; charset=utf-8" if table is _TEXT else b"")
    for table in (_TEXT, _OTHER)
    for media_type, extensions in table.items()
    for extension in extensions.split()
}


def media_type(name: bytes) -> bytes:
    """Return the value of `content-type` for a file of this name."""
    _, dot, extension = name.rpartition(b".")
    return _BY_EXTENSION.get(extension.lower(), UNKNOWN) if dot else UNKNOWN
