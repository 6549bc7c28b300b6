// Starts the page.
import { render } from "preact";
import { App } from "./app";
import { start } from "./store";
import "./style.css";

start();
const page = document.getElementById("page");
if (page === null) throw new Error("index.html has no #page");
render(<App />, page);
