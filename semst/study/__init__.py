"The user study: sets, page, votes, widget, report."
