// Which backups the list can be narrowed to.
export const KINDS = {
  pinned: (backup) => backup.pinned,
  labelled: (backup) => backup.label,
  damaged: (backup) => backup.problem,
};
