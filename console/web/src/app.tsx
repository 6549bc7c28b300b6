// The whole page: health above, the list at the left, the map at the right, and over it what was opened.
import { useEffect, useMemo, useState } from "preact/hooks";
import { BlindView } from "./blind";
import { DetailView } from "./detail";
import { choose, NO_FILTER } from "./filters";
import { FilterBar } from "./filterbar";
import { HistoryView } from "./history";
import { light, rowOf } from "./light";
import { List } from "./list";
import { CityMapView } from "./map";
import { language, rememberLanguage } from "./memory";
import { isOld, unacked, unseen, type Lang } from "./model";
import { mapLink, parse, type Route } from "./route";
import { city, model, news, now, onChange } from "./store";
import { Banners, Clock, Connection, HealthStrip } from "./strip";
import { SceneContext, useScene, type Scene } from "./ui";
import { WORDS } from "./words";

function useChanges(): void {
  const [, redraw] = useState(0);
  useEffect(() => onChange(() => redraw((n) => n + 1)), []);
}

function useRoute(): Route {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const changed = () => setHash(location.hash);
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return useMemo(() => parse(hash), [hash]);
}

/** The hash is the page's address, so that the link moves the focus by itself. */
function toList(event: Event): void {
  event.preventDefault();
  document.querySelector<HTMLElement>('a.row[tabindex="0"]')?.focus();
}

function Tabs({ view, blind, open }: { view: Route["view"]; blind: number; open: number }) {
  const { w } = useScene();
  const tabs = [
    ["alarms", "#/", w.alarms, open],
    ["map", "#/map", w.map, 0],
    ["blind", "#/blind", w.blindView, blind],
    ["history", "#/history", w.history, 0],
  ] as const;
  return (
    <nav class="tabs" aria-label="citywatch">
      {tabs.map(([name, link, words, count]) => (
        <a
          key={name}
          class="tab"
          data-tab={name}
          href={link}
          aria-current={name === (view === "alarm" ? "alarms" : view) ? "page" : undefined}
        >
          {words}
          {count > 0 && <b class="num">{count}</b>}
        </a>
      ))}
    </nav>
  );
}

export function App() {
  useChanges();
  const route = useRoute();
  const [lang, setLang] = useState<Lang>(language);
  const [filter, setFilter] = useState(NO_FILTER);
  const [asked, setAsked] = useState(0);
  document.documentElement.lang = lang;

  const chosen = useMemo(() => choose(filter, city, model.alarms.values()), [filter, city, model.alarmsAt]);
  const scene: Scene = { lang, w: WORDS[lang], now: now(), city };
  const { w } = scene;
  const selected = route.view === "alarm" || route.view === "map" ? route.id : null;
  const blind = [...model.seen.values()].filter(unseen).length;
  const open = [...model.alarms.values()].filter(unacked).length;
  const speak = (next: Lang) => {
    rememberLanguage(next);
    setLang(next);
  };

  return (
    <SceneContext.Provider value={scene}>
      <div class="page" data-view={route.view}>
        <header>
          <a class="skip" href="#/" onClick={toList}>
            {w.skip}
          </a>
          <a class="brand" href="#/">
            citywatch
          </a>
          <Tabs view={route.view} blind={blind} open={open} />
          <HealthStrip health={model.health} blind={blind} old={isOld(model.link, Date.now())} />
          <Connection link={model.link} />
          <Clock />
          <div class="languages" role="group" aria-label={w.language}>
            {(["vi", "en"] as const).map((each) => (
              <button
                key={each}
                type="button"
                aria-pressed={each === lang}
                lang={each}
                onClick={() => speak(each)}
              >
                {each.toUpperCase()}
              </button>
            ))}
          </div>
        </header>
        <Banners health={model.health} link={model.link} />
        <main>
          <section
            class="list"
            id="list"
            aria-label={w.alarms}
            onMouseOver={(event) => light(rowOf(event))}
            onMouseLeave={() => light(null)}
            onFocusIn={(event) => light(rowOf(event))}
          >
            <FilterBar
              filter={filter}
              alarms={model.alarms}
              alarmsAt={model.alarmsAt}
              hidden={chosen.hidden.length}
              set={setFilter}
            />
            <List
              alarms={model.alarms}
              chosen={chosen}
              filter={filter}
              news={news}
              selected={selected}
              ready={model.ready}
              blind={blind}
              onClear={() => setFilter(NO_FILTER)}
            />
          </section>
          {route.view === "alarm" && (
            <DetailView
              key={route.id}
              id={route.id}
              live={model.alarms.get(route.id) ?? null}
              connects={model.link.connects}
              onShow={() => {
                setAsked(asked + 1);
                // Where there is no room for both, the map takes the place of the detail.
                if (document.querySelector<HTMLElement>("section.map")?.offsetParent === null)
                  location.hash = mapLink(route.id);
              }}
            />
          )}
          {route.view === "blind" && <BlindView seen={model.seen} feeds={model.health?.feeds ?? []} />}
          {route.view === "history" && <HistoryView query={route.query} />}
          <CityMapView
            alarms={chosen.shown}
            seen={model.seen}
            seenAt={model.seenAt}
            selected={selected}
            asked={asked}
            space={route.view}
          />
        </main>
      </div>
    </SceneContext.Provider>
  );
}
