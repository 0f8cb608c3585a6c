// Flat-field correction: the active image divided by the image titled "flat_field".
//
// Both have as many slices; the flat field is 32-bit with a mean of about 1. The result has the type
// of the input: rounded, clipped to its range, not rescaled.
// A macro of your own in its place finds the same two images and leaves its result active.
tile = getImageID();
bits = bitDepth();
run("Conversions...", " ");   // no box ticked: convert grey values as they are, do not scale to the range
run("32-bit");
imageCalculator("Divide stack", tile, "flat_field");
selectImage(tile);
if (bits == 8) run("8-bit");
if (bits == 16) run("16-bit");
