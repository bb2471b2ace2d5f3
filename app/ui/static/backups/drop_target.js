// Takes in a file that is dropped on any page, and shows so while a file is held over the page.
import { useEffect, useState } from "../vendor/hooks.mjs";
import { Icon, html, tellError } from "../parts.js";
import { go } from "../route.js";
import { noAnswer } from "../service.js";

// isOff: nothing is taken.
export function DropTarget({ isOff }) {
  const [isOver, setOver] = useState(false);
  useEffect(() => {
    const over = (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      setOver(!isOff && (event.type !== "dragleave" || event.relatedTarget !== null));
    };
    const drop = (event) => {
      event.preventDefault(); // the browser would leave the page for the file
      setOver(false);
      const files = [...event.dataTransfer.files]; // the browser empties its list after this
      if (isOff || !files.length || document.querySelector("dialog[open]")) return;
      go("backups");
      import("./upload.js").then(({ takeIn }) => takeIn(files), () => tellError(noAnswer()));
    };
    const all = [["dragenter", over], ["dragover", over], ["dragleave", over], ["drop", drop]];
    for (const [name, listener] of all) addEventListener(name, listener);
    return () => {
      for (const [name, listener] of all) removeEventListener(name, listener);
    };
  }, [isOff]);
  return isOver && html`<div class="drop"><p><${Icon} name="upload" size=${28} />Drop a <code>.tar.gz</code> here. It is read to its last byte and replaces nothing.</p></div>`;
}
