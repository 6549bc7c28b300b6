// Lights up an alarm in the list and on the map at once, without drawing either again.

const LIT = "data-lit";

/** Everything that stands for the alarm: its row, its mark or the cluster that it is in. None: nothing is lit. */
export function light(id: string | null): void {
  for (const lit of document.querySelectorAll(`[${LIT}]`)) lit.removeAttribute(LIT);
  if (id === null) return;
  const name = CSS.escape(id);
  for (const each of document.querySelectorAll(`[data-id="${name}"], [data-ids~="${name}"]`))
    each.setAttribute(LIT, "");
}

/** The alarm of the row that an event is of. */
export function rowOf(event: Event): string | null {
  return (event.target as Element).closest<HTMLElement>("a.row")?.dataset["id"] ?? null;
}
