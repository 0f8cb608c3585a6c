#@script(label="Stitch and Enhance Folder...", menuPath="Plugins>Deep Learning Microscopy>Stitch and Enhance Folder...", headless=true)
#@ String(label="Write the result to (empty: show it)", value="", required=false, persist=false) output
# --- parameters, made from the settings classes by 'python -m dlm_fiji.service.script_parameters'
#@ String(label="Folder", value="", required=false, description="Folder of the tiles, in acquisition order by name, or one file that holds them") dlm_folder
#@ Integer(label="Rows", value=0, min=0, max=1000, description="Rows of the grid; 0: as columns, stage positions in the files, or file names tell") dlm_rows
#@ Integer(label="Columns", value=0, min=0, max=1000, description="Columns of the grid; 0: as for the rows") dlm_columns
#@ Double(label="Overlap", value=0.15, description="Overlap as a part of the tile's side") dlm_overlap
#@ String(label="Order", choices={"row-by-row", "column-by-column", "snake-by-rows", "snake-by-columns"}, value="row-by-row", description="Scan order") dlm_order
#@ String(label="Channels", choices={"together", "each"}, value="together", description="Channels are placed together, or each by its own content") dlm_channels
#@ String(label="Engine", choices={"native", "fiji"}, value="native", description="native, or Fiji's Grid/Collection stitching") dlm_engine
#@ String(label="Model", value="", required=false, description="Model that enhances the mosaic; empty only stitches") dlm_model
# --- end of parameters

# A folder of tiles, stitched to one image and enhanced; the service must be allowed to read the folder.
from dlm_fiji_client import fetch, find_service, guarded, parameters, run_job, show


def stitch():
    service = find_service()
    job = run_job(service, "stitch", {}, parameters(names))
    name = "enhanced" if "enhanced" in job["results"] else "mosaic"
    result = fetch(service, job, name)
    result.setTitle("%s [%s]" % (names["dlm_folder"], name))
    return show(result, output)


names = dict(globals())
dlm_result = guarded(stitch)
