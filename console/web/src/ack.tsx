// Acknowledging an alarm: who, with what note, and the truth about what became of it.
import { useEffect, useRef, useState } from "preact/hooks";
import { send, uuid, type Outcome } from "./api";
import { actor, rememberActor } from "./memory";
import type { Alarm } from "./model";
import { moment } from "./time";
import { useScene } from "./ui";
import type { Ask } from "./wire";

/** Nothing can be done about an alarm that somebody has acknowledged, that never was, or whose log has ended. */
export const canAcknowledge = (alarm: Alarm): boolean =>
  !alarm.acked &&
  !alarm.retracted &&
  alarm.closed_by === null &&
  alarm.state !== "NORM" &&
  alarm.state !== "SHLVD" &&
  alarm.state !== "DSUPR";

function Answer({ answer }: { answer: Outcome | "sending" }) {
  const { w, lang, now } = useScene();
  if (answer === "sending") return <p role="status">{w.sending}</p>;
  if (answer.kind === "done") return <p role="status">{w.inLog}</p>;
  if (answer.kind === "unknown") return <p role="alert">{w.unknown}</p>;
  const { alarm, why } = answer;
  const by = alarm?.acked_by != null && alarm.acked_at !== null;
  return (
    <p role="alert">
      {by
        ? w.refusedBy(alarm.acked_by ?? "", moment(Date.parse(alarm.acked_at ?? ""), now, lang))
        : w.refused(why)}
    </p>
  );
}

export function Acknowledge({ alarm }: { alarm: Alarm }) {
  const { w, lang } = useScene();
  const dialog = useRef<HTMLDialogElement>(null);
  const [name, setName] = useState(actor);
  const [note, setNote] = useState("");
  const [answer, setAnswer] = useState<Outcome | "sending" | null>(null);
  /** What was asked: sent again as it is, it is done once. */
  const asked = useRef<Ask | null>(null);

  const show = () => {
    asked.current = null;
    setAnswer(null);
    setName(actor());
    dialog.current?.showModal();
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    rememberActor(name.trim());
    asked.current ??= {
      command_id: uuid(),
      action: "acknowledge",
      alarm_id: alarm.alarm_id,
      actor: name.trim(),
      note: note.trim() === "" ? null : note.trim(),
    };
    setAnswer("sending");
    setAnswer(await send(asked.current));
  };
  // What the log says is what counts: whoever acknowledged it, the dialog has nothing left to do.
  useEffect(() => {
    if (alarm.acked && answer !== null && answer !== "sending" && answer.kind !== "refused")
      dialog.current?.close();
  }, [alarm.acked, answer]);

  /** Somebody else was faster, while the dialog was open. */
  const taken: Outcome | null = alarm.acked && answer === null ? { kind: "refused", why: "", alarm } : null;
  const done = taken !== null || (answer !== null && answer !== "sending" && answer.kind !== "unknown");
  const told = taken ?? answer;
  const unknown = answer !== null && answer !== "sending" && answer.kind === "unknown";
  return (
    <>
      {canAcknowledge(alarm) && (
        <button type="button" class="primary" onClick={show}>
          {w.acknowledge}
        </button>
      )}
      <dialog ref={dialog} class="ack" aria-labelledby="ack-title">
        <form onSubmit={(event) => void submit(event)}>
          <h2 id="ack-title">{w.ackTitle}</h2>
          <p class="dim">{alarm.title[lang]}</p>
          <label>
            {w.name}
            <input
              name="actor"
              required
              pattern=".*\S.*"
              maxLength={100}
              autocomplete="name"
              value={name}
              disabled={done || unknown}
              onInput={(event) => setName(event.currentTarget.value)}
            />
            <span class="dim">{w.nameHint}</span>
          </label>
          <label>
            {w.note}
            <textarea
              name="note"
              rows={3}
              maxLength={2000}
              value={note}
              disabled={done || unknown}
              onInput={(event) => setNote(event.currentTarget.value)}
            />
          </label>
          <div class="answer" aria-live="polite">
            {told !== null && <Answer answer={told} />}
          </div>
          <div class="buttons">
            <button type="button" onClick={() => dialog.current?.close()}>
              {done ? w.close : w.cancel}
            </button>
            {!done && (
              <button type="submit" class="primary" disabled={answer === "sending"}>
                {unknown ? w.retry : w.acknowledge}
              </button>
            )}
          </div>
        </form>
      </dialog>
    </>
  );
}
