// Where the page is, as its address says after the hash; so that links can be passed on and the back button works.

export type Route =
  | { view: "alarms" | "blind" }
  | { view: "alarm"; id: string }
  | { view: "map"; id: string | null }
  | { view: "history"; query: URLSearchParams };

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view, id = ""] = path.split("/");
  if (view === "alarm" && id !== "") return { view, id: decoded(id) };
  if (view === "history") return { view, query: new URLSearchParams(query) };
  if (view === "map") return { view, id: id === "" ? null : decoded(id) };
  return { view: view === "blind" ? view : "alarms" };
}

/** An address typed by hand may hold what decodes to nothing. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const mapLink = (id: string): string => `#/map/${encodeURIComponent(id)}`;
export const alarmLink = (id: string): string => `#/alarm/${encodeURIComponent(id)}`;
