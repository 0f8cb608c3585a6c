// Every TIFF of a folder, enhanced by the menu command (install-scripts puts it there).
input = getDirectory("Folder of the images");
output = getDirectory("Folder for the results");
files = getFileList(input);
for (i = 0; i < files.length; i++) {
    if (!endsWith(files[i], ".tif")) continue;
    // Brackets keep blanks in paths together. Fiji asks for a parameter that is left out: all are named.
    run("Enhance Image...", "input=[" + input + files[i] + "] output=[" + output + files[i] + "] whole_stack=true dlm_model=brightfield-x2.5 dlm_passes=1 dlm_backend=auto");
}
