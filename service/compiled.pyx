# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Tiles spread over the blocks that they touch, once over each tile and without the interpreter's lock.

`service.spread` has the same in NumPy.
"""

from libc.stdlib cimport calloc, free


cdef struct Box:  # a tile, and a block that takes a part of it
    float* sums  # (planes or more, side, side)
    Py_ssize_t side, tile, top, left  # the tile's first pixel as the block counts


def spread(list planes, const float[:, ::1] weight, const float[:, ::1] fractions, list parts):
    """Add the weighted planes of tiles to blocks; see `service.spread.spread_in_numpy`.

    Raises:
        IndexError: a part names a tile that is not there.
        ValueError: shapes do not fit, or an array is not float32 or not in one piece.
    """
    cdef Py_ssize_t height = weight.shape[0], width = weight.shape[1], k, plane
    cdef Py_ssize_t count = len(parts), tiles = fractions.shape[0], tile, top, left
    cdef const float[:, :, :] values
    cdef float[:, :, ::1] sums
    cdef Box* boxes = <Box*> calloc(count + 1, sizeof(Box))
    cdef float* lines = <float*> calloc(2 * width + 2, sizeof(float))
    try:
        if boxes == NULL or lines == NULL:
            raise MemoryError
        for k in range(count):
            tile, sums, top, left = parts[k]
            if not 0 <= tile < tiles:
                raise IndexError(f"there is no tile {tile}")
            if sums.shape[0] < len(planes) or sums.shape[1] != sums.shape[2]:
                raise ValueError("a block is square and has a sum for each plane")
            boxes[k] = Box(&sums[0, 0, 0], sums.shape[1], tile, top, left)
        for plane in range(len(planes)):
            values = planes[plane]
            if (values.shape[0], values.shape[1], values.shape[2]) != (tiles, height, width):
                raise ValueError("planes are of another shape than their weight and fractions")
            if values.strides[2] != sizeof(float):
                raise ValueError("a plane's rows are not in one piece")
            with nogil:
                for k in range(count):
                    add(boxes[k], plane, values, weight, fractions, lines)
    finally:
        free(boxes)
        free(lines)


cdef void add(
    Box box, Py_ssize_t plane, const float[:, :, :] values, const float[:, ::1] weight,
    const float[:, ::1] fractions, float* lines,
) noexcept nogil:
    """Add what of a tile's plane lies in a block, row by row."""
    cdef Py_ssize_t height = weight.shape[0], width = weight.shape[1], row, above
    cdef Py_ssize_t first = max(0, -box.left), last = min(width + 1, box.side - box.left)
    cdef float* dark = lines  # the light above a tile's first row and below its last
    cdef float* line = lines + width + 1  # between two pixels that stay zero
    cdef float* target
    for row in range(max(0, -box.top), min(height + 1, box.side - box.top)):
        above = row - 1
        mix(
            line, max(0, first - 1), min(width, last), fractions[box.tile, 0],
            &values[box.tile, min(row, height - 1), 0], &weight[row, 0] if row < height else dark,
            &values[box.tile, max(above, 0), 0], &weight[above, 0] if row > 0 else dark,
        )
        target = box.sums + (plane * box.side + box.top + row) * box.side + box.left
        add_moved(target, line, first, last, fractions[box.tile, 1])


cdef inline void mix(
    float* line, Py_ssize_t first, Py_ssize_t last, float down,
    const float* here, const float* light_here, const float* above, const float* light_above,
) noexcept nogil:
    """Write a row of the tile, the one above it moved down."""
    cdef float rest = 1 - down
    cdef Py_ssize_t x
    for x in range(first, last):
        line[x] = rest * light_here[x] * here[x] + down * light_above[x] * above[x]


cdef inline void add_moved(
    float* target, const float* line, Py_ssize_t first, Py_ssize_t last, float right
) noexcept nogil:
    """Add a row, each pixel's left neighbour moved right."""
    cdef float rest = 1 - right
    cdef Py_ssize_t x
    for x in range(first, last):
        target[x] += rest * line[x] + right * line[x - 1]
