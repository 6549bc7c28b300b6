// One connection to the stream for all tabs of a browser: a page that joins is told the whole, then every change.
import { follow } from "./live";
import { apply, empty, retold, type Told } from "./model";

const model = empty(Date.now());
const pages = new Set<MessagePort>();

follow("/api/stream", (told: Told) => {
  apply(model, told, Date.now());
  for (const page of pages) page.postMessage(told);
});

addEventListener("connect", (event) => {
  const [page] = (event as MessageEvent).ports;
  if (page === undefined) return;
  page.onmessage = ({ data }: MessageEvent<"hello" | "bye">) => {
    if (data === "bye") {
      pages.delete(page);
      return;
    }
    pages.add(page);
    for (const told of retold(model)) page.postMessage(told);
  };
});
