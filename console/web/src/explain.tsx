// Why there is an alarm, as the server tells it, and whether it could be derived again.
import { moment } from "./time";
import { Failure, useLoad, useScene } from "./ui";
import type { Explanation, Sentence } from "./wire";

function Line({ line, first }: { line: Sentence; first: boolean }) {
  const { w, lang, now } = useScene();
  return (
    <li class={line.part}>
      <span class="dim">
        {line.at !== null && <time dateTime={line.at}>{moment(Date.parse(line.at), now, lang, true)}</time>}
        {line.at === null && first && w.storyParts[line.part]}
      </span>
      <span>{line.text[lang]}</span>
    </li>
  );
}

/** `stamp` changes when something of the alarm did. */
export function Why({ id, stamp }: { id: string; stamp: string }) {
  const { w, lang } = useScene();
  const loaded = useLoad<Explanation>(`/api/alarms/${encodeURIComponent(id)}/explain`, stamp);
  const found = loaded.value;
  return (
    <section aria-label={w.whyAlarm}>
      <h3>{w.whyAlarm}</h3>
      {found === null &&
        (loaded.error === null ? <p class="dim">{w.loading}</p> : <Failure loaded={loaded} />)}
      {found !== null && (
        <>
          <p class={found.derives ? "derives" : "derives not"} role={found.derives ? undefined : "alert"}>
            {found.derives ? `✓ ${w.derives}` : `✗ ${w.derivesNot}`}
          </p>
          {found.problems.map((problem) => (
            <p key={problem.en} class="explained">
              {problem[lang]}
            </p>
          ))}
          <ol class="story">
            {found.story.map((line, i) => (
              <Line key={i} line={line} first={found.story[i - 1]?.part !== line.part} />
            ))}
          </ol>
        </>
      )}
    </section>
  );
}
